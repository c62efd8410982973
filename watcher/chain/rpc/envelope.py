"""JSON-RPC envelopes: the body of a reply as results and errors, one for each question. Pure.

A long list among the results, which is one of logs, is a list of texts (`msgspec.Raw`): all of its values at once take
three times the memory of the body.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import msgspec

from watcher import files
from watcher.chain.rpc.errors import Overloaded, RpcError, rpc_error
from watcher.errors import RetryElsewhere

# A log takes some 25 bytes a value at the least, a block's list of transactions 68. Forty thousand logs in one answer.
_VALUES_LIMIT = 600_000
_VALUES_LEAST = 1000
_BYTES_PER_VALUE = 16
_MESSAGE_KEYS = ("message", "msg", "detail", "description", "reason", "title")
_LONG_BYTES = 64 * 1024

Envelope = dict[str, Any]


class _Unread(msgspec.Struct, frozen=True):
    """An envelope without an error, as the standard has it, whose result is still text."""

    id: int
    result: msgspec.Raw
    error: None = None


_UNREAD = msgspec.json.Decoder(list[_Unread] | _Unread)
_TEXTS = msgspec.json.Decoder(list[msgspec.Raw])


def envelopes(body: bytes, ids: Sequence[int]) -> list[Envelope]:
    """Return the replies to one batch in the order of `ids`, each with `id`, and with `result` or `error`.

    An error object in place of the list, or without an id, refuses the whole batch: unless every reply is there as
    well, it stands for all of them.

    Raises:
        Overloaded: the body holds more values than any reply of its length.
        RetryElsewhere: it does not hold exactly one reply per id.
    """
    raw = _decoded(body, min(_VALUES_LIMIT, _VALUES_LEAST + len(body) // _BYTES_PER_VALUE))
    if _is_plain(raw, ids):
        return cast("list[Envelope]", raw)
    by_id, refusal = _by_id(raw, ids)
    if refusal is not None and len(by_id) < len(ids):
        return [refusal | {"id": number} for number in ids]
    if len(by_id) < len(ids):
        raise RetryElsewhere(f"{len(ids) - len(by_id)} of {len(ids)} answers are missing")
    return [by_id[number] for number in ids]


def answered(body: bytes, ids: Sequence[int]) -> list[Envelope] | None:
    """Return the replies in the body of an HTTP error, None unless it holds one for each id."""
    try:
        by_id, _ = _by_id(_decoded(body, _VALUES_LIMIT), ids)
    except RetryElsewhere:
        return None
    return [by_id[number] for number in ids] if len(by_id) == len(ids) else None


def _decoded(body: bytes, values_limit: int) -> Any:
    """Return the JSON value of a body.

    Raises:
        Overloaded: it holds more than `values_limit` values.
        RetryElsewhere: it is no JSON, or its brackets are nested too deep.
    """
    if not files.is_too_deep(body):
        if files.values_at_most(body) > values_limit:
            raise Overloaded("the answer holds more values than answers of its length do")
        # In half the time of `json`; and it refuses numbers and surrogates that no other reader could take.
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            return msgspec.json.decode(body) if len(body) <= _LONG_BYTES else _long(body)
    raise RetryElsewhere("the answer is not JSON")


def _long(body: bytes) -> Any:
    """Return the JSON value of a long body, with the items of long results as texts. Raises as msgspec does."""
    try:
        unread = _UNREAD.decode(body)
    except msgspec.ValidationError:
        return msgspec.json.decode(body)
    if isinstance(unread, _Unread):
        return {"id": unread.id, "result": _result(unread.result)}
    return [{"id": item.id, "result": _result(item.result)} for item in unread]


def _result(text: msgspec.Raw) -> Any:
    if len(memoryview(text)) > _LONG_BYTES:
        with suppress(msgspec.ValidationError):
            return _TEXTS.decode(text)
    return msgspec.json.decode(text)


def _is_plain(raw: Any, ids: Sequence[int]) -> bool:
    """Return True for one envelope as the standard has it for each id, in their order, as most nodes reply."""
    if type(raw) is not list or len(raw) != len(ids):
        return False
    for item, number in zip(raw, ids, strict=True):
        if type(item) is not dict or type(item.get("id")) is not int or item["id"] != number:
            return False
        if ("result" in item) == (item.get("error") is not None):
            return False
    return True


def _by_id(raw: Any, ids: Sequence[int]) -> tuple[dict[int, Envelope], Envelope | None]:
    """Return the replies by id, and the last error without an id."""
    items = raw if isinstance(raw, list) else [raw]
    if len(items) > len(ids):
        raise RetryElsewhere("the answer holds more items than were asked for")
    # Some servers return ids as text; some return none to a single call.
    asked: dict[Any, int] = {**{number: number for number in ids}, **{str(number): number for number in ids}}
    alone = len(ids) == 1 and not isinstance(raw, list)
    by_id: dict[int, Envelope] = {}
    refusal: Envelope | None = None
    for item in items:
        envelope = _envelope(item)
        reply_id = ids[0] if alone and envelope["id"] is None and "result" in envelope else envelope["id"]
        number = asked.get(reply_id) if type(reply_id) in (int, str) else None
        if reply_id is None and "error" in envelope:
            refusal = envelope
        elif number is None or number in by_id:
            raise RetryElsewhere("an answer carries an id that was not asked, or one twice")
        else:
            by_id[number] = envelope | {"id": number}
    return by_id, refusal


def _envelope(item: Any) -> Envelope:
    """Return one reply. Its version member is ignored: some servers leave it out."""
    if isinstance(item, str):  # a refusal as bare text
        return {"id": None, "error": item}
    if not isinstance(item, dict):
        raise RetryElsewhere("the answer is JSON, but not JSON-RPC")
    error, result = item.get("error"), item.get("result")
    if error is not None and result is not None:
        raise RetryElsewhere("an answer holds both a result and an error")
    if error is None and "result" not in item:
        error = _bare_refusal(item)
    return {"id": item.get("id"), **({"result": result} if error is None else {"error": error})}


def _bare_refusal(item: dict[str, Any]) -> dict[str, Any]:
    """Return the error in an object that is no envelope, such as the `{"message": ...}` of gateways."""
    message = next((item[name] for name in _MESSAGE_KEYS if isinstance(item.get(name), str)), None)
    if message is None:
        raise RetryElsewhere("an answer holds neither a result nor an error")
    return {"code": item.get("code"), "message": message}


def outcome(envelope: Envelope) -> Any | RpcError:
    """Return the bare result of an envelope, or its error as a value."""
    return envelope["result"] if "result" in envelope else rpc_error(envelope["error"])
