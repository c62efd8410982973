"""The check of an audit bundle by a third party: `python -m watcher.verify BUNDLE --rpc URL [--roots FILE]`.

One file, which needs the standard library and web3 alone: neither the daemon, nor its ledger, nor its settings. It is
written from docs/audit-format.md, and shares no code with the program that wrote the bundle. Exit code 0: everything
holds; 1: something does not, and each difference is printed; 2: the bundle or the node cannot be read.

The file is read twice, first its entries, then its rows; what has to be found again lies in a temporary SQLite file, so
that memory does not grow with the bundle.
"""

import argparse
import hashlib
import json
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

Json = dict[str, Any]
_PROBLEMS_SHOWN = 200
_LINE_LIMIT_BYTES = 1 << 26
_TABLES = ("sources", "tasks", "journal", "attempts", "responses", "events")
# What is looked up again: hashes of entries, the newest leaf of each row, the rows that are compared with the chain.
_STORED = """
CREATE TABLE entries (seq INTEGER PRIMARY KEY, hash BLOB);
CREATE TABLE leaves (number INTEGER, id INTEGER, digest BLOB, PRIMARY KEY (number, id)) WITHOUT ROWID;
CREATE TABLE seen (number INTEGER, id INTEGER, PRIMARY KEY (number, id)) WITHOUT ROWID;
CREATE TABLE tasks (id INTEGER PRIMARY KEY, place TEXT, row TEXT);
CREATE TABLE posts (task_id INTEGER, id INTEGER, began_at_ms INTEGER, PRIMARY KEY (task_id, id)) WITHOUT ROWID;
CREATE TABLE responses (place TEXT, tx_hash TEXT, id INTEGER, row TEXT, PRIMARY KEY (place, tx_hash, id)) WITHOUT ROWID;
"""


class Unreadable(Exception):
    """The bundle is none, or the node gives no reply."""


@dataclass(slots=True)
class Problems:
    """The differences: the first of them, and their number."""

    first: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, problem: str) -> None:
        self.count += 1
        if self.count <= _PROBLEMS_SHOWN:
            self.first.append(problem)


@dataclass(slots=True)
class Bundle:
    """A bundle while it is read: its first line, the roots in it, and the temporary file.

    `unbound_up_to` has the highest row ids older than the chain by table, while not all of those rows are bound.
    """

    path: Path
    header: Json
    store: sqlite3.Connection
    roots: list[Json] = field(default_factory=list)
    entries: int = 0
    unbound_up_to: Json = field(default_factory=dict)


# --- the file


def lines_of(path: Path, problems: Problems | None = None) -> Iterator[Json]:
    """Yield the lines of a bundle but the last, and compare that with the others. Raises Unreadable."""
    digest, end, count = hashlib.sha256(), None, 0
    try:
        with path.open("rb") as file:
            while text := file.readline(_LINE_LIMIT_BYTES):
                line = json.loads(text)
                if line["type"] == "end":
                    end = line
                    if file.read(1) and problems is not None:
                        problems.add("the file goes on behind its end")
                    break
                digest.update(text)
                count += 1
                yield line
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreadable(f"{path} cannot be read: {type(error).__name__}: {str(error)[:200]}") from None
    if problems is None:
        return
    if end is None:
        problems.add("the file is cut off: its last line is missing")
    elif end.get("sha256") != "0x" + digest.hexdigest() or end.get("lines") != count:
        problems.add("the file does not have the checksum of its last line")


def open_bundle(path: Path, store: sqlite3.Connection) -> Bundle:
    """Return a bundle whose first line is read. Raises Unreadable."""
    header = next(lines_of(path), None)
    if header is None:
        raise Unreadable(f"{path} is empty")
    if header["type"] != "header" or header.get("version") != 1:
        raise Unreadable(f"{path} is no bundle of version 1")
    store.executescript(_STORED)
    return Bundle(path, header, store)


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


def check_chain(bundle: Bundle, problems: Problems) -> None:
    """Compare every entry with its hash and the one before, and keep the newest leaf of each row."""
    header, note = bundle.header, ""
    prev = hashlib.sha256(
        b"avs-task-watcher audit chain 1" + int(header["chain_id"]).to_bytes(32) + _bytes(header["task_manager"])
    ).digest()
    for entry in _entries(bundle, problems):
        bundle.entries += 1
        number, leaves = bundle.entries, _bytes(entry["leaves"])
        if entry["seq"] != number:
            problems.add(f"entry {number} is missing: entry {str(entry['seq'])[:20]} stands in its place")
            break
        content = [_bytes(entry["prev_hash"]), number, entry["at_ms"], entry["kind"], entry["note"]]
        if hashlib.sha256(pack([*content, leaves])).digest() != _bytes(entry["hash"]):
            problems.add(f"entry {number} does not have the hash of its content")
        if content[0] != prev:
            problems.add(f"entry {number} does not follow the one before")
        prev = _bytes(entry["hash"])
        bundle.store.execute("INSERT INTO entries VALUES (?, ?)", (number, prev))
        bundle.store.executemany("INSERT OR REPLACE INTO leaves VALUES (?, ?, ?)", _leaves(leaves))
        if number == 1 and entry["kind"] == "begun":
            bundle.unbound_up_to = json.loads(entry["note"])
        elif entry["kind"] == "past":
            note = entry["note"]
    if note and json.loads(note)["table"] is None:  # all of the past is bound
        bundle.unbound_up_to = {}
    if not bundle.entries:
        problems.add("there is no audit chain")


def _entries(bundle: Bundle, problems: Problems) -> Iterator[Json]:
    """Yield the entries of the file, and keep its roots."""
    for line in lines_of(bundle.path, problems):
        if line["type"] == "entry":
            yield line
        elif line["type"] == "root":
            bundle.roots.append(line)
        elif line["type"] not in ("header", "row"):
            problems.add(f"a line has an unknown type: {str(line['type'])[:40]}")


def _leaves(packed: bytes) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield table and id of each row of an entry, and its digest; None: it was removed."""
    at = 0
    while at < len(packed):
        code, row_id = packed[at], int.from_bytes(packed[at + 1 : at + 9])
        is_removed = code >= 0x80
        yield code & 0x7F, row_id, None if is_removed else packed[at + 9 : at + 41]
        at += 9 if is_removed else 41


def check_rows(bundle: Bundle, problems: Problems) -> None:
    """Compare every row with the newest entry that has it, and keep those that the chain can be asked about."""
    store, tables = bundle.store, bundle.header["tables"]
    for line in lines_of(bundle.path):
        if line["type"] != "row":
            continue
        name, row = line["table"], line["row"]
        number, row_id = tables[name]["number"], row["id"]
        if store.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (number, row_id)).rowcount == 0:
            problems.add(f"row {row_id} of {name} is there twice")
        leaf = store.execute("SELECT digest FROM leaves WHERE number = ? AND id = ?", (number, row_id)).fetchone()
        if leaf is not None and leaf[0] != row_digest(row, tables[name]):
            problems.add(f"row {row_id} of {name}{_index_of(bundle, row)} is not as its entry has it")
        elif leaf is None and row_id > bundle.unbound_up_to.get(name, 0):
            problems.add(f"row {row_id} of {name}{_index_of(bundle, row)} is in no entry")
        _keep(store, name, row)
    unseen = "SELECT id FROM leaves WHERE number = ? AND digest IS NOT NULL AND (number, id) NOT IN seen ORDER BY id"
    for name in _TABLES:
        for (row_id,) in store.execute(unseen, (tables[name]["number"],)):
            problems.add(f"row {row_id} of {name} is missing")


def _keep(store: sqlite3.Connection, name: str, row: Json) -> None:
    """Keep a row of a task, an answer or a POST. Indices are of 256 bits, which SQLite sorts as text of one length."""
    if name == "tasks":
        place = f"{row['task_index']:078d}"
        store.execute("INSERT OR REPLACE INTO tasks VALUES (?, ?, ?)", (row["id"], place, json.dumps(row)))
    elif name == "responses":
        values = (f"{row['task_index']:078d}", row["tx_hash"], row["id"], json.dumps(row))
        store.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?)", values)
    elif name == "attempts" and row["kind"] == "post":
        store.execute("INSERT OR REPLACE INTO posts VALUES (?, ?, ?)", (row["task_id"], row["id"], row["began_at_ms"]))


def row_digest(row: Json, table: Json) -> bytes:
    """Return the digest of a row: the SHA-256 of its values in order, packed, without the nulls at the end."""
    values = [_bytes(row[name]) if name in table["bytes"] else row[name] for name in table["columns"]]
    while values and values[-1] is None:
        values.pop()
    return hashlib.sha256(pack(values)).digest()


def _index_of(bundle: Bundle, row: Json) -> str:
    if "task_index" in row:
        return f" (of task {row['task_index']})"
    task = bundle.store.execute("SELECT place FROM tasks WHERE id = ?", (row.get("task_id"),)).fetchone()
    return f" (of task {int(task[0])})" if task is not None else ""


def _bytes(text: Any) -> Any:
    return None if text is None else bytes.fromhex(text.removeprefix("0x"))


# --- roots


def check_roots(bundle: Bundle, roots: Iterable[tuple[str, Json]], problems: Problems) -> int:
    """Compare published roots with the entries. Return their number."""
    count = 0
    for origin, root in roots:
        count += 1
        first, last = int(root["first_seq"]), int(root["last_seq"])
        if {"chain_id", "task_manager"} <= root.keys() and (root["chain_id"], root["task_manager"].lower()) != (
            bundle.header["chain_id"],
            bundle.header["task_manager"],
        ):
            problems.add(f"{origin}: the root of {root['day']} is of another contract")
        if last > bundle.entries:
            problems.add(f"{origin}: the root of {root['day']} covers entry {last}, and the bundle ends before it")
            continue
        select = "SELECT hash FROM entries WHERE seq BETWEEN ? AND ? ORDER BY seq"
        hashes = (row[0] for row in bundle.store.execute(select, (first, last)))
        newest = bundle.store.execute("SELECT hash FROM entries WHERE seq = ?", (last,)).fetchone()
        if merkle_root(hashes) != _bytes(root["root"]) or newest is None or newest[0] != _bytes(root["head_hash"]):
            problems.add(f"{origin}: the entries {first} to {last} are not those of the root of {root['day']}")
    return count


def merkle_root(hashes: Iterable[bytes]) -> bytes:
    """Return the Merkle tree head of RFC 6962, section 2.1, from complete subtrees of falling size."""
    subtrees: list[tuple[int, bytes]] = []
    for leaf in hashes:
        size, root = 1, hashlib.sha256(b"\x00" + leaf).digest()
        while subtrees and subtrees[-1][0] == size:
            size, root = 2 * size, hashlib.sha256(b"\x01" + subtrees.pop()[1] + root).digest()
        subtrees.append((size, root))
    if not subtrees:
        return hashlib.sha256(b"").digest()
    _, root = subtrees.pop()
    while subtrees:
        root = hashlib.sha256(b"\x01" + subtrees.pop()[1] + root).digest()
    return root


def _read_roots(path: Path) -> list[tuple[str, Json]]:
    try:
        text = path.read_text(encoding="utf-8")
        try:
            whole = json.loads(text)
        except ValueError:
            whole = [json.loads(line) for line in text.splitlines() if line.strip()]
        return [(str(path), root) for root in (whole if isinstance(whole, list) else [whole])]
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(f"{path} cannot be read: {error}") from None


# --- the node


class Node:
    """A JSON-RPC node."""

    def __init__(self, url: str) -> None:
        from web3 import HTTPProvider  # here: without --rpc, a machine needs no web3

        self._provider = HTTPProvider(url, request_kwargs={"timeout": 30})
        # Tasks of one block, or of one transaction, are asked about once.
        self.receipt = lru_cache(maxsize=256)(lambda tx_hash: self.ask("eth_getTransactionReceipt", tx_hash))
        self.time_s = lru_cache(maxsize=256)(self._time_s)

    def ask(self, method: str, *parameters: Any) -> Any:
        """Return the result of a call, None for an error of the contract. Raises Unreadable without a reply."""
        try:
            reply = self._provider.make_request(method, list(parameters))
        except Exception as error:  # noqa: BLE001 - whatever a transport raises: there is no reply
            raise Unreadable(f"the node gives no reply to {method}: {type(error).__name__}") from None
        return reply.get("result")

    def _time_s(self, number: str) -> int | None:
        block = self.ask("eth_getBlockByNumber", number, False)
        return None if block is None else int(block["timestamp"], 16)

    def view(self, contract: str, signature: str, block: int, index: int | None = None) -> bytes | None:
        """Return the reply of a view at a block, None where the contract has none."""
        from web3 import Web3

        data = bytes(Web3.keccak(text=signature)[:4]) + (b"" if index is None else index.to_bytes(32))
        result = self.ask("eth_call", {"to": contract, "data": "0x" + data.hex()}, hex(block))
        return _bytes(result) if result and result != "0x" else None


def check_on_chain(bundle: Bundle, node: Node, problems: Problems) -> Iterator[str]:
    """Compare tasks and answers with the chain. Yield what was confirmed, a line for each task."""
    header = bundle.header
    if int(node.ask("eth_chainId"), 16) != header["chain_id"]:
        raise Unreadable(f"the node is on another chain than {header['chain_id']}")
    at = header["cursor_block"]
    block = node.ask("eth_getBlockByNumber", hex(at), False)
    if block is None or block["hash"] != header["cursor_hash"]:
        problems.add(f"the chain holds another block {at} than the bundle was made at")
        return
    _check_completeness(bundle, node, at, problems)
    for (text,) in bundle.store.execute("SELECT row FROM tasks ORDER BY place, id"):
        row = json.loads(text)
        if row["canonical"]:
            yield _check_task(bundle, node, at, row, problems)


def not_compared(header: Json) -> list[str]:
    """Return what the first line lacks to compare it with the chain: the contract has no view, or no settings."""
    named = {"count": "the number of tasks", "task_hash": "the hashes of tasks", "response_hash": "those of answers"}
    lacking = [what for name, what in named.items() if header["views"].get(name) is None]
    return lacking + ([] if header["answers_from"] else ["which contract emitted the answers"])


def _check_completeness(bundle: Bundle, node: Node, at: int, problems: Problems) -> None:
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
        problems.add(f"the contract does not count its tasks ({view['signature']})")
        return
    lowest = view["first_index"]
    shift = lowest if view["is_count"] else 0
    expected = max(lowest, int.from_bytes(before[:32]) + shift) if before else lowest
    end = int.from_bytes(now[:32]) + shift
    for (text,) in bundle.store.execute("SELECT row FROM tasks ORDER BY place"):
        row = json.loads(text)
        if not row["canonical"] or not expected <= row["task_index"] < end:
            continue
        _report_missing(expected, row["task_index"], problems)
        expected = row["task_index"] + 1
    _report_missing(expected, end, problems)


def _report_missing(first: int, end: int, problems: Problems) -> None:
    """Report the tasks from `first` on, below `end`."""
    for index in range(first, min(end, first + _PROBLEMS_SHOWN)):
        problems.add(f"task {index} is missing")
    problems.count += max(0, end - first - _PROBLEMS_SHOWN)


def _check_task(bundle: Bundle, node: Node, at: int, row: Json, problems: Problems) -> str:
    header, index = bundle.header, row["task_index"]
    what = f"task {index}"
    _check_log(node, row, row["created_tx_hash"], f"the log that creates {what}", header["task_manager"], problems)
    if row["message"][2:] not in row["log"]:
        problems.add(f"{what}: its message is not in its log")
    view = header["views"].get("task_hash")
    if view is not None and (word := node.view(header["task_manager"], view, at, index)) != _bytes(row["task_hash"]):
        problems.add(f"{what}: the contract holds {_hex(word)}, the bundle {row['task_hash']}")
    view = header["views"].get("response_hash")
    word = None if view is None else node.view(header["task_manager"], view, at, index)
    is_answered = row["responded_tx_hash"] is not None
    if view is not None and is_answered and word != _bytes(row["response_hash"]):
        problems.add(f"{what}: the contract holds the answer {_hex(word)}, the bundle {row['response_hash']}")
    if view is not None and word is not None and any(word) and not is_answered and row["state"] in ("expired", "final"):
        problems.add(f"{what}: the contract holds an answer, and the bundle has none")
    return f"{what}: {_story(bundle, node, row, problems)}"


def _story(bundle: Bundle, node: Node, row: Json, problems: Problems) -> str:
    """Return who answered a task in which block, and what we sent when."""
    select = "SELECT began_at_ms FROM posts WHERE task_id = ? ORDER BY id"
    times = [_time(began_at_ms) for (began_at_ms,) in bundle.store.execute(select, (row["id"],))]
    sent = "; sent " + ", ".join(times) if times else "; nothing was sent"
    if row["responded_tx_hash"] is None:
        return f"{row['state']}, no answer on the chain{sent}"
    select = "SELECT row FROM responses WHERE place = ? AND tx_hash = ? ORDER BY id"
    events = [
        json.loads(text)
        for (text,) in bundle.store.execute(select, (f"{row['task_index']:078d}", row["responded_tx_hash"]))
    ]
    what = f"the answer to task {row['task_index']}"
    if not events:
        problems.add(f"{what}: its event is missing")
        return f"{row['state']}, without its event{sent}"
    event = events[0]
    receipt = _check_log(node, event, event["tx_hash"], what, bundle.header["answers_from"], problems)
    if row["responded_block"] != event["block_number"]:
        problems.add(f"{what}: it is in block {event['block_number']}, the bundle says {row['responded_block']}")
    if event["message"][2:] not in event["log"]:
        problems.add(f"{what}: its bytes are not in its log")
    is_ours = row["response"] is not None and event["message"] == row["response"]
    if (row["state"] == "final" and not is_ours) or (row["state"] == "final_other" and is_ours):
        problems.add(f"{what}: the state {row['state']} contradicts the bytes on the chain")
    sender = None if receipt is None else receipt["from"]
    if row["responded_by"] is not None and sender is not None and sender.lower() != row["responded_by"]:
        problems.add(f"{what}: {sender} sent it, the bundle says {row['responded_by']}")
    by = "with our bytes" if is_ours else "with other bytes than ours"
    return f"answered {by} in block {event['block_number']} by {sender}{sent}"


def _check_log(node: Node, row: Json, tx_hash: str, what: str, contract: str | None, problems: Problems) -> Json | None:
    """Compare a log of the bundle with the receipt of its transaction. Return the receipt."""
    receipt: Json | None = node.receipt(tx_hash)
    if receipt is None:
        problems.add(f"{what}: the chain has no transaction {tx_hash}")
        return None
    if receipt["blockHash"] != row["block_hash"] or int(receipt["blockNumber"], 16) != row["block_number"]:
        problems.add(f"{what}: it is in another block than the bundle says")
    logs = [
        "0x" + "".join(topic[2:] for topic in log["topics"]) + log["data"][2:]
        for log in receipt["logs"]
        if contract is None or log["address"].lower() == contract
    ]
    if row["log"] not in logs:
        problems.add(f"{what}: the transaction has no such log")
    if row.get("block_time_s") is not None and node.time_s(receipt["blockNumber"]) not in (None, row["block_time_s"]):
        problems.add(f"{what}: the time of its block is another one")
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
    problems = Problems()
    try:
        with closing(sqlite3.connect("")) as store:  # a temporary file, which SQLite removes
            compared = _check(options, store, problems)
    except Unreadable as error:
        print(f"cannot be checked: {error}", file=sys.stderr)
        return 2
    except sqlite3.OperationalError as error:
        print(f"cannot be checked: the temporary file cannot be written: {error}", file=sys.stderr)
        return 2
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, sqlite3.Error) as error:
        problems.add(f"the bundle is damaged: {type(error).__name__}: {str(error)[:200]}")
        compared = 0
    for problem in problems.first:
        print(f"DIFFERS: {problem}")
    roots = f"{compared} published root{'' if compared == 1 else 's'}"
    print(f"{roots} compared" if compared else "no published root was compared (--roots)")
    print("the chain was compared" if options.rpc else "the chain was not compared (--rpc)")
    differences = f"{problems.count} difference{'' if problems.count == 1 else 's'}"
    print(differences if problems.count else "everything holds")
    return 1 if problems.count else 0


def _check(options: argparse.Namespace, store: sqlite3.Connection, problems: Problems) -> int:
    """Check everything, and print a line for each task on the chain. Return the number of published roots."""
    bundle = open_bundle(options.bundle, store)
    check_chain(bundle, problems)
    check_rows(bundle, problems)
    check_roots(bundle, [("the bundle", root) for root in bundle.roots], problems)
    compared = check_roots(bundle, [root for path in options.roots for root in _read_roots(path)], problems)
    if options.rpc:
        for line in check_on_chain(bundle, Node(options.rpc), problems):
            print(line)
        for what in not_compared(bundle.header):
            print(f"not compared with the chain: {what}")
    return compared


if __name__ == "__main__":
    sys.exit(check_bundle())
