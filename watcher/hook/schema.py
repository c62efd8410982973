"""The wire form of hooks in other languages, version 1: one JSON object for a task, one for its verdict. Pure.

`docs/hook.schema.json` is its JSON schema. Fields are added, never renamed or removed. Standard library only, because a
worker imports it. Invariant: a reply is hostile; for any bytes `read_reply` returns a checked verdict or raises
AttemptFailed.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from watcher.errors import AttemptFailed
from watcher.files import parse, values_at_most
from watcher.hook.protocol import Answer, checked_result
from watcher.hook.values import BYTES, Values
from watcher.task import Later, Skip, Task
from watcher.text import clean, to_hex

VERSION = 1
VERDICTS = ("answer", "skip", "later", "failed")

_ID_BYTES = 12
_FAILURE_LIMIT_CHARS = 1000
_CODE_VERSION_LIMIT_CHARS = 100
_VALUES_LIMIT = 10_000  # with the commas of texts
# The room beside the response: names, reasons, white space.
_ROOM_BYTES = 1 << 20
# The end of the year 9999, the last that a datetime can hold.
_LAST_S = 253_402_300_799


class BrokenReply(AttemptFailed):
    """A reply that belongs to no known request, so that its sender may be out of step."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A verdict, and the version that the code gives itself; "" without one."""

    answer: Answer
    code_version: str


def new_id() -> str:
    """Return the id of a request. A counter would let an early reply pass for that to a later request."""
    return os.urandom(_ID_BYTES).hex()


def reply_limit_bytes(answer_limit_bytes: int) -> int:
    """Return the length of the longest reply: the answer as hex, and room for the rest."""
    return 2 * answer_limit_bytes + _ROOM_BYTES


def write_request(request_id: str, task: Task, values: Values = BYTES) -> bytes:
    """Return the request to answer a task, on one line without its end.

    Raises:
        AttemptFailed: its message does not decode.
    """
    form = task_form(task, values)
    return json.dumps({"version": VERSION, "id": request_id, "task": form}, separators=(",", ":")).encode()


def task_form(task: Task, values: Values = BYTES) -> dict[str, Any]:
    """Return a task with the names of `tasks list --json`, its log's index, and the values of its event.

    Where messages have types, `message` holds the values and `raw_message` the bytes.

    Raises:
        AttemptFailed: its message does not decode.
    """
    seen_at = task.seen_at
    return {
        "chain_id": task.chain_id,
        "task_manager": to_hex(task.task_manager),
        "task_index": task.task_index,
        "task_hash": to_hex(task.task_hash),
        "task_created_block": task.created_block,
        "message": values.message_form(task),
        **({"raw_message": to_hex(task.message)} if values.is_message_decoded else {}),
        "quorum_numbers": to_hex(task.quorum_numbers),
        "quorum_threshold": task.quorum_threshold,
        "deadline_block": task.deadline_block,
        "deadline_at": _time(task.deadline_s),
        "block_number": seen_at.block_number,
        "block_hash": to_hex(seen_at.block_hash),
        "created_tx_hash": to_hex(seen_at.tx_hash),
        "log_index": seen_at.log_index,
        "fields": _plain(task.fields),
    }


def _time(s: int | None) -> str | None:
    """Return seconds since 1970 as ISO 8601 in UTC, None for a time after the year 9999."""
    if s is None or s > _LAST_S:
        return None
    from datetime import UTC, datetime  # late: few contracts give a time

    return datetime.fromtimestamp(s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: Any) -> Any:
    """Return an event's value for any language: bytes as 0x hex, whole numbers as decimal text.

    A number of JSON loses digits beyond 2**53 in many languages.
    """
    if isinstance(value, bytes):
        return to_hex(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def read_reply(body: bytes, request_id: str, limit_bytes: int, values: Values = BYTES) -> Reply:
    """Return the verdict of a reply.

    Args:
        body: the JSON object.
        request_id: the id of the request.
        limit_bytes: the longest answer.
        values: encodes the answer.

    Raises:
        BrokenReply: it is no reply to this request.
        AttemptFailed: the hook failed, or its verdict does not keep the contract.
    """
    # A megabyte of empty lists would take a tenth of a second to parse.
    if values_at_most(body) > _VALUES_LIMIT:
        raise BrokenReply(f"the hook's reply holds more than {_VALUES_LIMIT:,} values")
    fields = _parsed(body)
    if not isinstance(fields, dict):
        raise BrokenReply("the hook's reply is not a JSON object")
    if fields.get("id") != request_id:
        raise BrokenReply("the hook's reply does not have the id of its request")
    version = fields.get("version", VERSION)
    if type(version) is not int or version != VERSION:
        raise AttemptFailed(f"the hook's reply is of another version than {VERSION}")
    code_version = _text(fields, "hook_version")
    return Reply(checked_result(_verdict(fields, values), limit_bytes), clean(code_version, _CODE_VERSION_LIMIT_CHARS))


def _parsed(body: bytes) -> Any:
    """Return the value of a reply. A name that is there twice is an error: one of its two answers would be signed.

    Raises:
        BrokenReply: it is no JSON; the message says where, and holds nothing of the reply.
    """
    try:
        return parse(body, unique_names=True)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at character {error.pos + 1}" if body.strip() else "it is empty"
    except UnicodeDecodeError as error:
        reason = f"byte {error.start + 1} is not UTF-8"
    except ValueError as error:
        reason = str(error)
    raise BrokenReply(f"the hook's reply is not JSON: {clean(reason, 200)}")


def _verdict(fields: Mapping[str, Any], values: Values) -> Answer:
    match fields.get("verdict"):
        case "answer" if values.is_answer_encoded:
            return values.encoded_form(fields.get("response"))
        case "answer":
            return _response(fields)
        case "skip":
            return Skip(_text(fields, "reason"))
        case "later":
            return Later(fields.get("blocks", 0), fields.get("seconds", 0), _text(fields, "reason"))
        case "failed":
            reason = clean(_text(fields, "reason"), _FAILURE_LIMIT_CHARS)
            raise AttemptFailed(f"the hook failed: {reason}" if reason else "the hook failed and gives no reason")
    raise AttemptFailed(f'the "verdict" of the hook\'s reply is not one of {", ".join(VERDICTS)}')


def _response(fields: Mapping[str, Any]) -> bytes:
    text = fields.get("response")
    if not isinstance(text, str) or not text.startswith("0x"):
        raise AttemptFailed('the "response" of the hook\'s reply is not text that begins with 0x')
    try:
        response = bytes.fromhex(text[2:])
    except ValueError:
        raise AttemptFailed('the "response" of the hook\'s reply is not 0x and two hex digits for each byte') from None
    if len(text) != 2 + 2 * len(response):  # fromhex ignores white space
        raise AttemptFailed('the "response" of the hook\'s reply is not 0x and two hex digits for each byte')
    return response


def _text(fields: Mapping[str, Any], name: str) -> str:
    text = fields.get(name, "")
    if not isinstance(text, str):
        raise AttemptFailed(f'the "{name}" of the hook\'s reply is not text')
    return text
