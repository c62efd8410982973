"""Planted bugs, read from `mutants.toml`."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Mutant:
    """A bug, and why it would be dangerous. `edits` are (file below `watcher/`, old text, new text)."""

    name: str
    why: str
    edits: tuple[tuple[str, str, str], ...]
    suites: tuple[str, ...] = ("ledger",)
    quick: bool = False


def _mutant(raw: dict[str, Any]) -> Mutant:
    edits = tuple((edit["file"], edit["old"], edit["new"]) for edit in raw["edit"])
    return Mutant(raw["name"], raw["why"], edits, tuple(raw.get("suites", ("ledger",))), raw.get("quick", False))


MUTANTS = tuple(
    _mutant(raw) for raw in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))["mutant"]
)
