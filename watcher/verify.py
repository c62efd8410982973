"""The check of an audit bundle by a third party: `python -m watcher.verify BUNDLE --rpc URL [--roots FILE]`.

One file, which needs the standard library and web3 alone: neither the daemon, nor its ledger, nor its settings. It is
written from docs/audit-format.md, and shares no code with the program that wrote the bundle. Exit code 0: everything
holds; 1: something does not, and each difference is printed; 2: the bundle or the node cannot be read.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Json = dict[str, Any]
_PROBLEMS_SHOWN = 200
_TABLES = ("sources", "tasks", "journal", "attempts", "responses", "events")


class Unreadable(Exception):
    """The bundle is none, or the node gives no reply."""


@dataclass(slots=True)
class Bundle:
    """A bundle as it was read. `rows` has the rows of each table by id, and `order` the columns of each table."""

    header: Json
    entries: list[Json] = field(default_factory=list)
    roots: list[Json] = field(default_factory=list)
    rows: dict[str, dict[int, Json]] = field(default_factory=lambda: {name: {} for name in _TABLES})


# --- the file


def read(path: Path, problems: list[str]) -> Bundle:
    """Read a bundle, and compare it with its checksum. Raises Unreadable."""
    digest, bundle, end, count = hashlib.sha256(), None, None, 0
    try:
        with path.open("rb") as file:
            for text in file:
                line = json.loads(text)
                if end is not None:
                    problems.append("the file goes on behind its end")
                    break
                if line["type"] == "end":
                    end = line
                    continue
                digest.update(text)
                count += 1
                if bundle is None:
                    if line["type"] != "header" or line["version"] != 1:
                        raise Unreadable(f"{path} is no bundle of version 1")
                    bundle = Bundle(line)
                else:
                    _take(bundle, line, problems)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreadable(f"{path} cannot be read: {type(error).__name__}: {str(error)[:200]}") from None
    if bundle is None:
        raise Unreadable(f"{path} is empty")
    if end is None:
        problems.append("the file is cut off: its last line is missing")
    elif end["sha256"] != "0x" + digest.hexdigest() or end["lines"] != count:
        problems.append("the file does not have the checksum of its last line")
    return bundle


def _take(bundle: Bundle, line: Json, problems: list[str]) -> None:
    if line["type"] == "entry":
        bundle.entries.append(line)
    elif line["type"] == "root":
        bundle.roots.append(line)
    elif line["type"] == "row":
        rows, row_id = bundle.rows[line["table"]], line["row"]["id"]
        if row_id in rows:
            problems.append(f"row {row_id} of {line['table']} is there twice")
        rows[row_id] = line["row"]
    else:
        problems.append(f"a line has an unknown type: {str(line['type'])[:40]}")


# --- MessagePack, as far as digests need it: https://github.com/msgpack/msgpack/blob/master/spec.md


def pack(value: Any) -> bytes:
    """Return a value in its shortest form. Raises ValueError for a value that has none here."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return _pack_integer(value)
        case bytes():
            return _sized(len(value), ((0xC4, 1), (0xC5, 2), (0xC6, 4))) + value
        case str():
            text = value.encode()
            short = bytes((0xA0 | len(text),)) if len(text) < 32 else None
            return (short or _sized(len(text), ((0xD9, 1), (0xDA, 2), (0xDB, 4)))) + text
        case list():
            begin = bytes((0x90 | len(value),)) if len(value) < 16 else b"\xdc" + len(value).to_bytes(2)
            return begin + b"".join(map(pack, value))
    raise ValueError(f"a {type(value).__name__} is no value of a row")


def _pack_integer(number: int) -> bytes:
    if number >= 2**64:
        return pack(number.to_bytes(32))
    if 0 <= number < 128:
        return bytes((number,))
    if -32 <= number < 0:
        return number.to_bytes(1, signed=True)
    if number > 0:
        return _sized(number, ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)))
    for code, size in ((0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8)):
        if number >= -(1 << (8 * size - 1)):
            return bytes((code,)) + number.to_bytes(size, signed=True)
    raise ValueError("an integer is too small")


def _sized(number: int, forms: Iterable[tuple[int, int]]) -> bytes:
    for code, size in forms:
        if number < 1 << (8 * size):
            return bytes((code,)) + number.to_bytes(size)
    raise ValueError("a value is too long")


# --- the chain


def check_chain(bundle: Bundle, problems: list[str]) -> None:
    """Compare every entry with its hash and the one before, and every row with the newest entry that has it."""
    header = bundle.header
    prev = hashlib.sha256(
        b"avs-task-watcher audit chain 1" + int(header["chain_id"]).to_bytes(32) + _bytes(header["task_manager"])
    ).digest()
    newest: dict[tuple[int, int], bytes | None] = {}
    for number, entry in enumerate(bundle.entries, 1):
        if entry["seq"] != number:
            problems.append(f"entry {number} is missing: entry {entry['seq']} stands in its place")
            break
        content = [_bytes(entry["prev_hash"]), number, entry["at_ms"], entry["kind"], entry["note"]]
        if hashlib.sha256(pack([*content, _bytes(entry["leaves"])])).digest() != _bytes(entry["hash"]):
            problems.append(f"entry {number} does not have the hash of its content")
        if content[0] != prev:
            problems.append(f"entry {number} does not follow the one before")
        prev = _bytes(entry["hash"])
        newest.update(_leaves(_bytes(entry["leaves"])))
    if not bundle.entries:
        problems.append("there is no audit chain")
    _check_rows(bundle, newest, problems)


def _leaves(packed: bytes) -> Iterator[tuple[tuple[int, int], bytes | None]]:
    """Yield table and id of each row of an entry, and its digest; None: it was removed."""
    at = 0
    while at < len(packed):
        code, row_id = packed[at], int.from_bytes(packed[at + 1 : at + 9])
        is_removed = code >= 0x80
        yield (code & 0x7F, row_id), None if is_removed else packed[at + 9 : at + 41]
        at += 9 if is_removed else 41


def _check_rows(bundle: Bundle, newest: dict[tuple[int, int], bytes | None], problems: list[str]) -> None:
    marks = _past_marks(bundle)
    for name in _TABLES:
        table = bundle.header["tables"][name]
        rows = bundle.rows[name]
        for row_id, row in rows.items():
            key = (table["number"], row_id)
            if key not in newest:
                if row_id > marks.get(name, 0):
                    problems.append(f"row {row_id} of {name}{_index_of(bundle, row)} is in no entry")
            elif newest[key] != row_digest(row, table):
                problems.append(f"row {row_id} of {name}{_index_of(bundle, row)} is not as its entry has it")
        for (number, row_id), digest in newest.items():
            if number == table["number"] and digest is not None and row_id not in rows:
                problems.append(f"row {row_id} of {name} is missing")


def _past_marks(bundle: Bundle) -> Json:
    """Return the highest row ids older than the chain by table, while not all of those rows are bound."""
    if not bundle.entries or bundle.entries[0]["kind"] != "begun":
        return {}
    bound = [entry for entry in bundle.entries if entry["kind"] == "past"]
    is_bound = bool(bound) and json.loads(bound[-1]["note"])["table"] is None
    marks: Json = json.loads(bundle.entries[0]["note"])
    return {} if is_bound else marks


def row_digest(row: Json, table: Json) -> bytes:
    """Return the digest of a row: the SHA-256 of its values in order, packed, without the nulls at the end."""
    values = [_bytes(row[name]) if name in table["bytes"] else row[name] for name in table["columns"]]
    while values and values[-1] is None:
        values.pop()
    return hashlib.sha256(pack(values)).digest()


def _index_of(bundle: Bundle, row: Json) -> str:
    task = row if "task_index" in row else bundle.rows["tasks"].get(row.get("task_id", 0), {})
    return f" (of task {task['task_index']})" if "task_index" in task else ""


def _bytes(text: Any) -> Any:
    return None if text is None else bytes.fromhex(text.removeprefix("0x"))


# --- roots


def check_roots(bundle: Bundle, roots: Iterable[tuple[str, Json]], problems: list[str]) -> int:
    """Compare published roots with the entries. Return their number."""
    count = 0
    for origin, root in roots:
        count += 1
        first, last = int(root["first_seq"]), int(root["last_seq"])
        if {"chain_id", "task_manager"} <= root.keys() and (root["chain_id"], root["task_manager"].lower()) != (
            bundle.header["chain_id"],
            bundle.header["task_manager"],
        ):
            problems.append(f"{origin}: the root of {root['day']} is of another contract")
        if last > len(bundle.entries):
            problems.append(f"{origin}: the root of {root['day']} covers entry {last}, and the bundle ends before it")
            continue
        hashes = [_bytes(entry["hash"]) for entry in bundle.entries[first - 1 : last]]
        if merkle_root(hashes) != _bytes(root["root"]) or hashes[-1] != _bytes(root["head_hash"]):
            problems.append(f"{origin}: the entries {first} to {last} are not those of the root of {root['day']}")
    return count


def merkle_root(hashes: list[bytes]) -> bytes:
    """Return the Merkle tree head of RFC 6962, section 2.1."""
    if len(hashes) < 2:
        return hashlib.sha256(b"\x00" + hashes[0] if hashes else b"").digest()
    half = 1 << ((len(hashes) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + merkle_root(hashes[:half]) + merkle_root(hashes[half:])).digest()


def _read_roots(path: Path) -> list[tuple[str, Json]]:
    try:
        text = path.read_text(encoding="utf-8")
        try:
            whole = json.loads(text)
        except ValueError:
            whole = [json.loads(line) for line in text.splitlines() if line.strip()]
        return [(str(path), root) for root in (whole if isinstance(whole, list) else [whole])]
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} cannot be read: {error}") from None


# --- the node


class Node:
    """A JSON-RPC node."""

    def __init__(self, url: str) -> None:
        from web3 import HTTPProvider  # here: without --rpc, a machine needs no web3

        self._provider = HTTPProvider(url, request_kwargs={"timeout": 30})

    def ask(self, method: str, *parameters: Any) -> Any:
        """Return the result of a call, None for an error of the contract. Raises Unreadable without a reply."""
        try:
            reply = self._provider.make_request(method, list(parameters))
        except Exception as error:  # noqa: BLE001 - whatever a transport raises: there is no reply
            raise Unreadable(f"the node gives no reply to {method}: {type(error).__name__}") from None
        return reply.get("result")

    def view(self, contract: str, signature: str, block: int, index: int | None = None) -> bytes | None:
        """Return the reply of a view at a block, None where the contract has none."""
        from web3 import Web3

        data = bytes(Web3.keccak(text=signature)[:4]) + (b"" if index is None else index.to_bytes(32))
        result = self.ask("eth_call", {"to": contract, "data": "0x" + data.hex()}, hex(block))
        return _bytes(result) if result and result != "0x" else None


def check_on_chain(bundle: Bundle, node: Node, problems: list[str]) -> list[str]:
    """Compare tasks and answers with the chain. Return what was confirmed, a line for each task."""
    header = bundle.header
    if int(node.ask("eth_chainId"), 16) != header["chain_id"]:
        raise Unreadable(f"the node is on another chain than {header['chain_id']}")
    at = header["cursor_block"]
    block = node.ask("eth_getBlockByNumber", hex(at), False)
    if block is None or block["hash"] != header["cursor_hash"]:
        problems.append(f"the chain holds another block {at} than the bundle was made at")
        return []
    tasks: dict[int, list[Json]] = {}
    for row in bundle.rows["tasks"].values():
        if row["canonical"]:
            tasks.setdefault(row["task_index"], []).append(row)
    _check_completeness(bundle, node, at, tasks, problems)
    return [_check_task(bundle, node, at, row, problems) for index in sorted(tasks) for row in tasks[index]]


def _check_completeness(bundle: Bundle, node: Node, at: int, tasks: dict[int, Any], problems: list[str]) -> None:
    header, view = bundle.header, bundle.header["views"].get("count")
    if view is None:
        return
    now = node.view(header["task_manager"], view["signature"], at)
    before = (
        node.view(header["task_manager"], view["signature"], header["start_block"] - 1)
        if header["start_block"]
        else None
    )
    if now is None:
        problems.append(f"the contract does not count its tasks ({view['signature']})")
        return
    lowest = view["first_index"]
    shift = lowest if view["is_count"] else 0
    first = max(lowest, int.from_bytes(before[:32]) + shift) if before else lowest
    missing = [index for index in range(first, int.from_bytes(now[:32]) + shift) if index not in tasks]
    problems += [f"task {index} is missing" for index in missing[:_PROBLEMS_SHOWN]]


def _check_task(bundle: Bundle, node: Node, at: int, row: Json, problems: list[str]) -> str:
    header, index = bundle.header, row["task_index"]
    what = f"task {index}"
    _check_log(node, row, row["created_tx_hash"], f"the log that creates {what}", header["task_manager"], problems)
    if row["message"][2:] not in row["log"]:
        problems.append(f"{what}: its message is not in its log")
    view = header["views"].get("task_hash")
    if view is not None and (word := node.view(header["task_manager"], view, at, index)) != _bytes(row["task_hash"]):
        problems.append(f"{what}: the contract holds {_hex(word)}, the bundle {row['task_hash']}")
    view = header["views"].get("response_hash")
    word = None if view is None else node.view(header["task_manager"], view, at, index)
    is_answered = row["responded_tx_hash"] is not None
    if view is not None and is_answered and word != _bytes(row["response_hash"]):
        problems.append(f"{what}: the contract holds the answer {_hex(word)}, the bundle {row['response_hash']}")
    if view is not None and word is not None and any(word) and not is_answered and row["state"] in ("expired", "final"):
        problems.append(f"{what}: the contract holds an answer, and the bundle has none")
    return f"{what}: {_story(bundle, node, row, problems)}"


def _story(bundle: Bundle, node: Node, row: Json, problems: list[str]) -> str:
    """Return who answered a task in which block, and what we sent when."""
    posts = [a for a in bundle.rows["attempts"].values() if a["task_id"] == row["id"] and a["kind"] == "post"]
    sent = "; sent " + ", ".join(_time(post["began_at_ms"]) for post in posts) if posts else "; nothing was sent"
    if row["responded_tx_hash"] is None:
        return f"{row['state']}, no answer on the chain{sent}"
    events = [
        event
        for event in bundle.rows["responses"].values()
        if event["task_index"] == row["task_index"] and event["tx_hash"] == row["responded_tx_hash"]
    ]
    what = f"the answer to task {row['task_index']}"
    if not events:
        problems.append(f"{what}: its event is missing")
        return f"{row['state']}, without its event{sent}"
    event = events[0]
    receipt = _check_log(node, event, event["tx_hash"], what, bundle.header["answers_from"], problems)
    if row["responded_block"] != event["block_number"]:
        problems.append(f"{what}: it is in block {event['block_number']}, the bundle says {row['responded_block']}")
    if event["message"][2:] not in event["log"]:
        problems.append(f"{what}: its bytes are not in its log")
    is_ours = row["response"] is not None and event["message"] == row["response"]
    if (row["state"] == "final" and not is_ours) or (row["state"] == "final_other" and is_ours):
        problems.append(f"{what}: the state {row['state']} contradicts the bytes on the chain")
    sender = None if receipt is None else receipt["from"]
    if row["responded_by"] is not None and sender is not None and sender.lower() != row["responded_by"]:
        problems.append(f"{what}: {sender} sent it, the bundle says {row['responded_by']}")
    by = "with our bytes" if is_ours else "with other bytes than ours"
    return f"answered {by} in block {event['block_number']} by {sender}{sent}"


def _check_log(node: Node, row: Json, tx_hash: str, what: str, contract: str, problems: list[str]) -> Json | None:
    """Compare a log of the bundle with the receipt of its transaction. Return the receipt."""
    receipt: Json | None = node.ask("eth_getTransactionReceipt", tx_hash)
    if receipt is None:
        problems.append(f"{what}: the chain has no transaction {tx_hash}")
        return None
    if receipt["blockHash"] != row["block_hash"] or int(receipt["blockNumber"], 16) != row["block_number"]:
        problems.append(f"{what}: it is in another block than the bundle says")
    logs = [
        "0x" + "".join(topic[2:] for topic in log["topics"]) + log["data"][2:]
        for log in receipt["logs"]
        if log["address"].lower() == contract
    ]
    if row["log"] not in logs:
        problems.append(f"{what}: the transaction has no such log")
    if (time_s := row.get("block_time_s")) is not None:
        block = node.ask("eth_getBlockByNumber", receipt["blockNumber"], False)
        if block is not None and int(block["timestamp"], 16) != time_s:
            problems.append(f"{what}: the time of its block is another one")
    return receipt


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _hex(word: bytes | None) -> str:
    return "nothing" if word is None else "0x" + word.hex()


def check_bundle(arguments: list[str] | None = None) -> int:
    """Check a bundle, and print what holds and what does not. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m watcher.verify", description="Check an audit bundle.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rpc", help="a node of the chain, with the state of the bundle's block")
    parser.add_argument("--roots", type=Path, action="append", default=[], help="a file of published roots")
    options = parser.parse_args(arguments)
    problems: list[str] = []
    try:
        bundle = read(options.bundle, problems)
        check_chain(bundle, problems)
        own = [("the bundle", root) for root in bundle.roots]
        check_roots(bundle, own, problems)
        compared = check_roots(bundle, [root for path in options.roots for root in _read_roots(path)], problems)
        story = check_on_chain(bundle, Node(options.rpc), problems) if options.rpc else []
    except Unreadable as error:
        print(f"cannot be checked: {error}", file=sys.stderr)
        return 2
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        problems.append(f"the bundle is damaged: {type(error).__name__}: {str(error)[:200]}")
        story, compared = [], 0
    for line in story:
        print(line)
    for problem in problems[:_PROBLEMS_SHOWN]:
        print(f"DIFFERS: {problem}")
    print(f"{compared} published roots compared" if compared else "no published root was compared (--roots)")
    print("the chain was compared" if options.rpc else "the chain was not compared (--rpc)")
    print("everything holds" if not problems else f"{len(problems)} differences")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(check_bundle())
