"""Published roots of the audit chain as JSON: one object for each, in a file with a line for each or in an array.

The field names are an interface: fields are added, never renamed or removed.
"""

from pathlib import Path
from typing import Any

from watcher.errors import FixConfiguration, FixUsage
from watcher.files import parse, read_text
from watcher.ledger.audit.roots import Root
from watcher.text import escape, to_hex

_FILE_LIMIT_BYTES = 64 * 1024 * 1024
_INTEGER_MAX = 2**63 - 1


def root_fields(root: Root, chain_id: int, task_manager: bytes) -> dict[str, Any]:
    """Return one root as it is printed and published."""
    return {
        "chain_id": chain_id,
        "task_manager": to_hex(task_manager),
        "day": root.day,
        "first_seq": root.first_seq,
        "last_seq": root.last_seq,
        "root": to_hex(root.root),
        "head_hash": to_hex(root.head_hash),
        "complete": root.is_complete,
    }


def read_roots(path: Path, chain_id: int, task_manager: bytes) -> dict[str, Root]:
    """Return the roots in a file, by where they stand in it.

    Args:
        path: the file, JSON lines, an array, or one object.
        chain_id: the chain of the ledger.
        task_manager: its contract, 20 bytes.

    Raises:
        FixUsage: the file cannot be read, holds no roots, or those of another contract.
    """
    try:
        documents = _documents(read_text(path, _FILE_LIMIT_BYTES))
    except (FixConfiguration, ValueError) as error:
        raise FixUsage(f"{path}: the roots cannot be read: it {escape(str(error))[:200]}") from None
    roots = {}
    for number, document in enumerate(documents, 1):
        try:
            origin, root = _root(document)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise FixUsage(f"{path}: root {number} lacks a field, or has one of another type") from None
        if origin != (chain_id, task_manager):
            raise FixUsage(f"{path}: root {number} is of {to_hex(origin[1])} on chain {origin[0]}, not of this ledger")
        roots[f"{path}, root {number}"] = root
    if not roots:
        raise FixUsage(f"{path} holds no root")
    return roots


def read_root_lines(path: Path, chain_id: int, task_manager: bytes) -> list[Root]:
    """Return the roots in a file that has a line for each; none if the file is empty.

    Args:
        path: the file.
        chain_id: the chain that the roots are of.
        task_manager: its contract, 20 bytes.

    Raises:
        FixUsage: the file cannot be read, a line of it is no root, or a root is of another contract.
    """
    try:
        lines = read_text(path, _FILE_LIMIT_BYTES).splitlines()
    except FixConfiguration as error:
        raise FixUsage(f"{path}: it {escape(str(error))[:200]}") from None
    roots = []
    for number, line in enumerate(lines, 1):
        try:
            origin, root = _root(parse(line.encode()))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise FixUsage(f"{path}: line {number} is not a root") from None
        if origin != (chain_id, task_manager):
            raise FixUsage(f"{path}: line {number} is of {to_hex(origin[1])} on chain {origin[0]}, not of this ledger")
        roots.append(root)
    return roots


def _documents(text: str) -> list[Any]:
    """Return the JSON objects of a document or of its lines. Raises ValueError."""
    try:
        whole = parse(text.encode())
    except ValueError:
        return [parse(line.encode()) for line in text.splitlines() if line.strip()]
    return whole if isinstance(whole, list) else [whole]


def _root(document: Any) -> tuple[tuple[int, bytes], Root]:
    """Return contract and root of a JSON object. Raises KeyError, TypeError or ValueError."""
    first_seq, last_seq = int(document["first_seq"]), int(document["last_seq"])
    hashes = bytes.fromhex(document["root"].removeprefix("0x")), bytes.fromhex(document["head_hash"].removeprefix("0x"))
    if not 0 < first_seq <= last_seq <= _INTEGER_MAX or {len(value) for value in hashes} != {32}:
        raise ValueError
    origin = int(document["chain_id"]), bytes.fromhex(document["task_manager"].removeprefix("0x"))
    return origin, Root(str(document["day"])[:10], first_seq, last_seq, *hashes, bool(document.get("complete", True)))
