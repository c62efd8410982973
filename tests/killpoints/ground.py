"""What stands still while the victim dies: the chain, as a list of lines that any life reads, and what was sent.

The rig appends lines, the victim only reads them. The same lines always make the same blocks with the same hashes.
"""

import asyncio
import json
import os
from pathlib import Path
from random import Random
from typing import Any

from tests.simulation.chain import Block, Chain

TASKS = 20
WINDOW_BLOCKS = 50_000
FINALITY_BLOCKS = 4


def begin(folder: Path) -> None:
    """A chain with 20 tasks in four blocks."""
    for _ in range(4):
        append(folder, {"create": TASKS // 4})


def append(folder: Path, line: dict[str, Any]) -> None:
    """One more block, with what the line says."""
    handle = os.open(folder / "chain", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(handle, json.dumps(line).encode() + b"\n")
    os.close(handle)


class Ground:
    """Plays the `World` of `tests.simulation.nodes.Replica`, with no fault at all."""

    def __init__(self, folder: Path) -> None:
        self.span_limit = 1_000
        self.states: dict[bytes, Block] = {}
        self._chain = Chain(Random(0), WINDOW_BLOCKS, FINALITY_BLOCKS, 0)
        self._path = folder / "chain"
        self._read_bytes = 0

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    @property
    def chain(self) -> Chain:
        self.grown()
        return self._chain

    def grown(self) -> bool:
        """Follow the lines; True where there were new ones."""
        if self._path.stat().st_size <= self._read_bytes:
            return False
        with self._path.open("rb") as handle:
            handle.seek(self._read_bytes)
            lines = handle.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for line in whole.splitlines():
            self._mine(json.loads(line))
        return bool(whole)

    def _mine(self, line: dict[str, Any]) -> None:
        chain = self._chain
        if "create" in line:
            chain.create(line["create"])
        for index, created, message, answer in line.get("respond", ()):
            chain.respond(index, created, bytes.fromhex(message), bytes.fromhex(answer), 0, False)
        chain.mine()

    # What a replica asks of its world.

    def random(self, name: str) -> Random:
        return Random(name)

    def happens(self, fault: str) -> bool:
        return False

    async def pause(self) -> None:
        return

    def alive(self) -> None:
        return

    def read(self, calls: object, block: object) -> None:
        return

    def tell(self, line: str) -> None:
        return
