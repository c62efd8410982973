"""JSON-RPC replies, from bytes to values, strict about every type. Pure.

Invariant: for any bytes of a server these functions return a checked value or raise RetryElsewhere, and nothing else.
The caller adds the name of the server.
"""

import re
from binascii import unhexlify
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from watcher import files
from watcher.chain.rpc.errors import Overloaded, RpcError, rpc_error
from watcher.errors import RetryElsewhere
from watcher.task import Header

_QUANTITY = re.compile(r"0[xX][0-9a-fA-F]{1,64}")
# Heights and positions go into signed 64-bit columns.
_SMALL_MAX = 2**63 - 1
_TIME_LIMIT_S = 2**40
# A log takes some 25 bytes a value at the least, a block's list of transactions 68. Forty thousand logs in one answer.
_VALUES_LIMIT = 600_000
_VALUES_LEAST = 1000
_BYTES_PER_VALUE = 16
_MESSAGE_KEYS = ("message", "msg", "detail", "description", "reason", "title")


@dataclass(frozen=True, slots=True)
class Log:
    """One log of the asked contract, well-formed but not decoded.

    `block_time_s` is the time of its block in seconds since 1970, 0 where the reply does not show it.
    """

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: bytes
    tx_hash: bytes
    log_index: int
    block_time_s: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class LogPage:
    """All logs of a range of blocks, with the proof that the node had reached its end.

    `logs` are in chain order and without duplicates. `continuous` is False if the chain no longer holds the block that
    the caller continues from. `foreign` counts discarded logs outside the question, of a hostile or broken node.
    """

    logs: tuple[Log, ...]
    last: Header
    continuous: bool
    foreign: int


@dataclass(frozen=True, slots=True)
class Reverted:
    """An eth_call that failed in the contract: no such function, or a failed check.

    Each kind of node words it differently, so `message` does not count in comparisons.
    """

    message: str = field(compare=False)
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Unread:
    """A failed reading, which proves nothing about the contract or the chain.

    `reverted` is True if the contract's view reverts, False if the node fails (state not kept, a value of another
    form). Reasons differ from node to node, so they do not count in comparisons.
    """

    reason: str = field(compare=False)
    reverted: bool = False


Envelope = dict[str, Any]


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
            return msgspec.json.decode(body)
    raise RetryElsewhere("the answer is not JSON")


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


def quantity(raw: Any, most: int = _SMALL_MAX) -> int:
    """Return a 0x number of at most `most`. Leading zeros and upper-case digits are allowed.

    Raises RetryElsewhere for any other value.
    """
    if not isinstance(raw, str) or not _QUANTITY.fullmatch(raw):
        raise RetryElsewhere("the answer holds something else where a 0x number belongs")
    value = int(raw, 16)
    if value > most:
        raise RetryElsewhere("the answer holds a number beyond its limit")
    return value


def octets(raw: Any, size: int | None = None) -> bytes:
    """Return 0x bytes, exactly `size` of them unless it is None.

    Raises RetryElsewhere for any other value.
    """
    # unhexlify, unlike bytes.fromhex, lets no white space pass.
    try:
        if raw[:2] == "0x" and (size is None or len(raw) == 2 + 2 * size):
            return unhexlify(raw[2:])
    except (ValueError, TypeError, KeyError):
        pass
    raise RetryElsewhere("the answer holds something else where 0x bytes of a certain length belong")


def header(raw: Any, l1_blocks: bool | None = None) -> Header:
    """Return a block object as a header. Raises RetryElsewhere for any other value.

    `l1_blocks`: True where contracts count the parent chain's blocks (`l1BlockNumber`, which nitro adds), False where
    they count the chain's own, None where that is not known yet: then the field counts if it is there. Where it must
    be there and is not (block 0, blocks older than nitro), the lowest number stands in: no deadline is past by it.
    """
    if not isinstance(raw, dict):
        raise RetryElsewhere("the answer holds something else where a block belongs")
    hash_, parent_hash = octets(raw.get("hash"), 32), octets(raw.get("parentHash"), 32)
    l1_number = raw.get("l1BlockNumber")
    l1_block = None if l1_blocks is False or (l1_blocks is None and l1_number is None) else quantity(l1_number or "0x0")
    return Header(quantity(raw.get("number")), hash_, parent_hash, _time_s(raw.get("timestamp")), l1_block)


def _time_s(raw: Any) -> int:
    """Return a block's timestamp (s), 0 (unknown) for nonsense: the block is useful without it."""
    try:
        return quantity(raw, _TIME_LIMIT_S)
    except RetryElsewhere:
        return 0


def _log(raw: Any, last: Header) -> Log:
    if not isinstance(raw, dict) or not isinstance(raw.get("topics"), list) or len(raw["topics"]) > 4:
        raise RetryElsewhere("the answer holds something else where a log belongs")
    block_hash = octets(raw.get("blockHash"), 32)
    return Log(
        octets(raw.get("address"), 20),
        tuple([octets(topic, 32) for topic in raw["topics"]]),
        octets(raw.get("data")),
        quantity(raw.get("blockNumber")),
        block_hash,
        octets(raw.get("transactionHash"), 32),
        quantity(raw.get("logIndex")),
        last.timestamp_s if block_hash == last.hash else _log_time_s(raw, last),
    )


def _log_time_s(raw: Any, last: Header) -> int:
    """Return the time (s) that newer nodes put into a log, 0 without one, and for one after the end of the range.

    Source: https://github.com/ethereum/execution-apis, Log.blockTimestamp.
    """
    raw_time = raw.get("blockTimestamp")
    time_s = 0 if raw_time is None else _time_s(raw_time)
    return time_s if time_s <= last.timestamp_s or not last.timestamp_s else 0


def logs(
    raw: Any,
    address: bytes | tuple[bytes, ...],
    topics0: Collection[bytes] | None,
    index: bytes | None,
    first: int,
    last: Header,
) -> tuple[tuple[Log, ...], int]:
    """Return the logs of the question, sorted and without duplicates, and the number of other logs in the reply.

    Args:
        raw: the reply; some nodes send null for no log.
        address: the emitter of the logs, or several.
        topics0: the admissible first topics; None: any, but one must be there.
        index: the second topic, None for any.
        first: the first block of the range.
        last: the last block of the range, by the header in the same batch.

    Raises:
        RetryElsewhere: a log is malformed, or the reply contradicts itself or `last`: the chain moved meanwhile.
    """
    if raw is None:
        return (), 0
    if not isinstance(raw, list):
        raise RetryElsewhere("the answer holds something else where a list of logs belongs")
    addresses = (address,) if isinstance(address, bytes) else address
    # Some nodes count logIndex within the transaction, or repeat one in a block: logs that differ are two logs.
    matching: dict[Log, None] = {}
    hashes = {last.number: last.hash}
    foreign = 0
    for item in raw:
        log = _log(item, last)
        matches = (
            log.address in addresses
            and first <= log.block_number <= last.number
            and log.topics[:1]
            and (topics0 is None or log.topics[0] in topics0)
            and (index is None or log.topics[1:2] == (index,))
            and item.get("removed") in (None, False)  # absent, and null, at some nodes
        )
        if not matches:
            foreign += 1
            continue
        if hashes.setdefault(log.block_number, log.block_hash) != log.block_hash:
            raise RetryElsewhere(f"the chain moved meanwhile: two versions of block {log.block_number}")
        matching[log] = None
    return tuple(sorted(matching, key=lambda log: (log.block_number, log.log_index))), foreign
