"""JSON-RPC answers, from bytes to values. Pure, and strict about every type.

Whatever bytes a server sends, these functions return a checked value or raise RetryElsewhere, never anything else.
The caller adds which server it was.
"""

import re
from binascii import unhexlify
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

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
_WORDS_OF_REFUSALS = ("message", "msg", "detail", "description", "reason", "title")


@dataclass(frozen=True, slots=True)
class Log:
    """One log of the asked contract, well-formed but not decoded."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: bytes
    tx_hash: bytes
    log_index: int


@dataclass(frozen=True, slots=True)
class LogPage:
    """All logs of a span of blocks, with the proof that the node had reached its end.

    `logs` are in chain order and without duplicates. `continuous` is False when the chain no longer holds the block the
    caller wanted to continue from. `foreign` counts logs that were not asked for (discarded; a hostile or broken node).
    """

    logs: tuple[Log, ...]
    last: Header
    continuous: bool
    foreign: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a transaction: whether it succeeded, and where it was mined."""

    status: bool
    block_number: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class Reverted:
    """An eth_call that ran and failed in the contract: no such function, or a check that did not hold.

    Every kind of node has words of its own for it, so that they do not make two answers different.
    """

    words: str = field(compare=False)
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Unread:
    """A reading that could not be had: it proves nothing, neither of the contract nor of the chain.

    `reverted` is True where the contract's own view refuses it, False where a node does (state not kept, a value of
    another form). Reasons differ from node to node and do not make two readings different.
    """

    reason: str = field(compare=False)
    reverted: bool = False


Envelope = dict[str, Any]


def envelopes(body: bytes, ids: Sequence[int]) -> list[Envelope]:
    """The answers to one batch, in the order asked, each `{"id", "result" | "error"}`.

    An error object in place of the list, or without an id, is the node refusing the batch, in whatever form it comes:
    unless every answer is there all the same, it stands for all of them.

    Raises:
        Overloaded: more values than any answer of this length has.
        RetryElsewhere: anything else that is not exactly one answer per id.
    """
    if files.is_too_deep(body):
        raise RetryElsewhere("the answer is not JSON")
    if files.values_at_most(body) > min(_VALUES_LIMIT, _VALUES_LEAST + len(body) // _BYTES_PER_VALUE):
        raise Overloaded("the answer holds more values than answers of its length do")
    try:
        raw = files.parse(body)
    except ValueError:  # not UTF-8, not JSON, a number of 5,000 digits, 100,000 brackets
        raise RetryElsewhere("the answer is not JSON") from None
    found, refusal = _by_id(raw, ids)
    if refusal is not None and len(found) < len(ids):
        return [refusal | {"id": number} for number in ids]
    if len(found) < len(ids):
        raise RetryElsewhere(f"{len(ids) - len(found)} of {len(ids)} answers are missing")
    return [found[number] for number in ids]


def answered(body: bytes, ids: Sequence[int]) -> list[Envelope] | None:
    """The answers in a body that came with an HTTP error, None unless it holds one for each id."""
    try:
        found, _ = _by_id(files.parse(body), ids)
    except (ValueError, RetryElsewhere):
        return None
    return [found[number] for number in ids] if len(found) == len(ids) else None


def _by_id(raw: Any, ids: Sequence[int]) -> tuple[dict[int, Envelope], Envelope | None]:
    """The answers by the id asked, and the last one that is an error and names none."""
    items = raw if isinstance(raw, list) else [raw]
    if len(items) > len(ids):
        raise RetryElsewhere("the answer holds more items than were asked for")
    # Ids come back as text from some servers; to a single question asked alone, some give none.
    asked: dict[Any, int] = {**{number: number for number in ids}, **{str(number): number for number in ids}}
    alone = len(ids) == 1 and not isinstance(raw, list)
    found: dict[int, Envelope] = {}
    refusal: Envelope | None = None
    for item in items:
        envelope = _envelope(item)
        given = ids[0] if alone and envelope["id"] is None and "result" in envelope else envelope["id"]
        number = asked.get(given) if type(given) in (int, str) else None
        if given is None and "error" in envelope:
            refusal = envelope
        elif number is None or number in found:
            raise RetryElsewhere("an answer carries an id that was not asked, or one twice")
        else:
            found[number] = envelope | {"id": number}
    return found, refusal


def _envelope(item: Any) -> Envelope:
    """One answer. Its version member is not looked at: servers leave it out, and no client minds."""
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
    """The error in an object that is no envelope: gateways say `{"message": ...}` and the like."""
    words = next((item[name] for name in _WORDS_OF_REFUSALS if isinstance(item.get(name), str)), None)
    if words is None:
        raise RetryElsewhere("an answer holds neither a result nor an error")
    return {"code": item.get("code"), "message": words}


def outcome(envelope: dict[str, Any]) -> Any | RpcError:
    """What an envelope carries: the bare result, or its error as a value."""
    return rpc_error(envelope["error"]) if "error" in envelope else envelope["result"]


def quantity(raw: Any, most: int = _SMALL_MAX) -> int:
    """A 0x number. Leading zeros and upper-case digits are harmless; no prefix, decimal and negative are not."""
    if not isinstance(raw, str) or not _QUANTITY.fullmatch(raw):
        raise RetryElsewhere("the answer holds something else where a 0x number belongs")
    value = int(raw, 16)
    if value > most:
        raise RetryElsewhere("the answer holds a number beyond its limit")
    return value


def octets(raw: Any, size: int | None = None) -> bytes:
    """0x bytes, `size` of them when given."""
    # unhexlify, unlike bytes.fromhex, lets no white space pass.
    try:
        if raw[:2] == "0x" and (size is None or len(raw) == 2 + 2 * size):
            return unhexlify(raw[2:])
    except (ValueError, TypeError, KeyError):
        pass
    raise RetryElsewhere("the answer holds something else where 0x bytes of a certain length belong")


def header(raw: Any, l1_blocks: bool | None = None) -> Header:
    """Return a block object as a header.

    `l1_blocks`: True where contracts count the parent chain's blocks (`l1BlockNumber`, which nitro adds), False where
    they count the chain's own, None where that is not known yet: then the field counts if it is there. Where it must
    be there and is not (block 0, blocks older than nitro), the lowest number stands in: no deadline is past by it.
    """
    if not isinstance(raw, dict):
        raise RetryElsewhere("the answer holds something else where a block belongs")
    hash_, parent_hash = octets(raw.get("hash"), 32), octets(raw.get("parentHash"), 32)
    found = raw.get("l1BlockNumber")
    l1_block = None if l1_blocks is False or (l1_blocks is None and found is None) else quantity(found or "0x0")
    return Header(quantity(raw.get("number")), hash_, parent_hash, _time_s(raw.get("timestamp")), l1_block)


def _time_s(raw: Any) -> int:
    """A block's time; 0, which is unknown, for nonsense: it is no reason to do without the block."""
    try:
        return quantity(raw, _TIME_LIMIT_S)
    except RetryElsewhere:
        return 0


def receipt(raw: Any) -> Receipt | None:
    """A transaction receipt; None where the transaction is not mined: null, or an object that names no block yet."""
    if raw is None or (isinstance(raw, dict) and None in (raw.get("blockHash"), raw.get("blockNumber"))):
        return None
    if not isinstance(raw, dict):
        raise RetryElsewhere("the answer holds something else where a receipt belongs")
    status = quantity(raw.get("status"), 1) == 1
    return Receipt(status, quantity(raw.get("blockNumber")), octets(raw.get("blockHash"), 32))


def _log(raw: Any) -> Log:
    if not isinstance(raw, dict) or not isinstance(raw.get("topics"), list) or len(raw["topics"]) > 4:
        raise RetryElsewhere("the answer holds something else where a log belongs")
    return Log(
        octets(raw.get("address"), 20),
        tuple([octets(topic, 32) for topic in raw["topics"]]),
        octets(raw.get("data")),
        quantity(raw.get("blockNumber")),
        octets(raw.get("blockHash"), 32),
        octets(raw.get("transactionHash"), 32),
        quantity(raw.get("logIndex")),
    )


def logs(
    raw: Any,
    address: bytes | tuple[bytes, ...],
    topics0: Collection[bytes] | None,
    index: bytes | None,
    first: int,
    last: Header,
) -> tuple[tuple[Log, ...], int]:
    """The logs asked for, sorted and without duplicates, and how many were there that nobody asked for.

    `topics0` None: any that has a topic at all. Some nodes say null where there are none.
    Raises RetryElsewhere when the answer contradicts itself or `last`: the chain moved while the node was reading it.
    """
    if raw is None:
        return (), 0
    if not isinstance(raw, list):
        raise RetryElsewhere("the answer holds something else where a list of logs belongs")
    addresses = (address,) if isinstance(address, bytes) else address
    # Some nodes count logIndex within the transaction, or give two logs of a block the same: whatever differs is two.
    found: dict[Log, None] = {}
    hashes = {last.number: last.hash}
    foreign = 0
    for item in raw:
        log = _log(item)
        wanted = (
            log.address in addresses
            and first <= log.block_number <= last.number
            and log.topics[:1]
            and (topics0 is None or log.topics[0] in topics0)
            and (index is None or log.topics[1:2] == (index,))
            and item.get("removed") in (None, False)  # absent, and null, at some nodes
        )
        if not wanted:
            foreign += 1
            continue
        if hashes.setdefault(log.block_number, log.block_hash) != log.block_hash:
            raise RetryElsewhere(f"the chain moved under our feet: two versions of block {log.block_number}")
        found[log] = None
    return tuple(sorted(found, key=lambda log: (log.block_number, log.log_index))), foreign
