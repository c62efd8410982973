"""The watcher.toml of a devnet, written at each start; what a person has changed in it stays.

Beside it, `devnet.json` holds the text as the devnet wrote it last, and where the running devnet is found.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watcher.errors import FixConfiguration
from watcher.files import parse, read_text

STATE_FILE = "devnet.json"
LIMIT_BYTES = 1024 * 1024
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class DevnetPlace:
    """A started devnet, as another process finds it. `convention` is the name of its contract's convention."""

    rpc_url: str
    task_manager: str
    convention: str


def write_config(
    path: Path, text: str, place: DevnetPlace, *, asked: frozenset[_Key] = frozenset()
) -> tuple[str, bool]:
    """Write a devnet's watcher.toml, and beside it the state file.

    A line that a person has changed stays; a line as the last start wrote it gets the new value. A file that no devnet
    has written stays as it is.

    Args:
        path: the watcher.toml.
        text: its content for this start.
        place: this devnet.
        asked: tables and keys that the command line names; a value that is new on the command line replaces a
            person's.

    Returns:
        The text of the file, and whether something of a person's is kept in it.

    Raises:
        FixConfiguration: the present file cannot be read.
    """
    state = path.with_name(STATE_FILE)
    before, kept = _last_text(state), text
    if path.exists():
        try:
            own = read_text(path, LIMIT_BYTES)
        except FixConfiguration as error:
            raise FixConfiguration(f"{path}: {error}") from None
        kept = text if own == before else own if before is None else _merged(own, before, text, asked)
    if not path.exists() or kept != own:
        path.write_text(kept, encoding="utf-8")
    state.touch(mode=0o600)  # the target of the hook may hold a password
    fields = {"rpc_url": place.rpc_url, "task_manager": place.task_manager, "convention": place.convention}
    state.write_text(json.dumps({**fields, "toml": text}, indent=1) + "\n", encoding="utf-8")
    return kept, kept != text


def read_place(folder: Path) -> DevnetPlace | None:
    """Return the devnet that was started last with a folder; None if there was none, or its file is damaged."""
    state = _state(folder / STATE_FILE)
    texts = [state.get(name) for name in ("rpc_url", "task_manager", "convention")]
    if not all(isinstance(text, str) for text in texts):
        return None
    return DevnetPlace(*map(str, texts))


def _last_text(state: Path) -> str | None:
    text = _state(state).get("toml")
    return text if isinstance(text, str) else None


def _state(path: Path) -> Mapping[str, Any]:
    try:
        state = parse(read_text(path, LIMIT_BYTES).encode())
    except (FixConfiguration, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _merged(own: str, before: str, text: str, asked: frozenset[_Key]) -> str:
    """Return a person's file with the new value of each line that still is what the devnet wrote."""
    old, new = dict(_settings(before)), dict(_settings(text))
    lines, present = [], set()
    for key, line in _lines(own):
        if key is None:
            lines.append(line)
            continue
        present.add(key)
        is_untouched = line.strip() == old.get(key) or (key in asked and old.get(key) != new.get(key))
        if not is_untouched:
            lines.append(line)
        elif key in new:
            lines.append(new[key])
    for key in new:
        header = f"[{key[0]}]"
        if key not in present and key not in old and header in lines:
            lines.insert(lines.index(header) + 1, new[key])
    return "\n".join(lines) + "\n"


def _settings(text: str) -> Iterator[tuple[_Key, str]]:
    for key, line in _lines(text):
        if key is not None:
            yield key, line


def _lines(text: str) -> Iterator[tuple[_Key | None, str]]:
    """Yield each line with its table and key; None for any other line."""
    table = ""
    for line in text.splitlines():
        content = line.strip()
        if content.startswith("[") and content.endswith("]"):
            table = content[1:-1].strip()
        name, is_setting, _ = content.partition("=")
        yield ((table, name.strip()) if is_setting and not content.startswith(("#", "[")) else None), line
