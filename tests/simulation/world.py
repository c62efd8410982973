"""One scenario: a chain, its replicas, an API, a hook and a daemon, all driven by one seed.

Everything that happens is an action of this class: `scenario.run_steps` chooses them by lot, the state machine of
hypothesis by its own wits. `scenario.settle` then takes all faults away and lets the daemon finish; `Oracle` judges.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.books import Database
from tests.simulation.chain import Block, Chain, digest
from tests.simulation.life import Life, settings_of
from tests.simulation.loop import VirtualClock, VirtualLoop
from tests.simulation.nodes import Replica
from tests.simulation.oracle import Oracle, Violation
from tests.simulation.outside import Api, Hook
from tests.simulation.rules import FAULTS, Rules
from tests.wizard import ALL_TASK_RESPONSES
from watcher.errors import FixUsage
from watcher.ledger import manual
from watcher.ledger.store import complete
from watcher.ledger.transaction import Tx

if TYPE_CHECKING:
    from watcher.settings.model import Settings


@dataclass(frozen=True)
class Reading:
    """What a stage has read of one task: at which block, and which head it had been told of before."""

    block: Block
    told_head: int


_shared: list[Database] = []
_settings: dict[tuple[Any, ...], "Settings"] = {}


def _database() -> Database:
    if not _shared:
        _shared.append(Database())
    _shared[0].empty()
    return _shared[0]


class World:
    """`trace` receives the story, line by line."""

    def __init__(self, seed: object, rules: Rules | None = None, trace: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self._trace = trace
        self.rules = rules or Rules.draw(self.random("rules"))
        self.loop = VirtualLoop()
        self.clock = VirtualClock(self.loop)
        self.database = _database()
        self.chain = Chain(self.random("chain"), self.rules.window, self.rules.finality, self.rules.drift)
        self.replicas = [Replica(self, f"node {number}") for number in range(self.rules.nodes)]
        self.hook, self.api, self.oracle = Hook(self), Api(self), Oracle(self)
        self.rates: dict[str, float] = {name: FAULTS[name] for name in FAULTS if name in self.rules.faults}
        self.span_limit = 1_000
        self.life = 0
        self.source_id = 1
        self.commits = self.withheld = self.emptied = 0
        self.fuse: int | None = None  # commits left to live
        self.forged: set[bytes] = set()
        self.handled: set[int] = set()  # by a person
        self.hidden: Counter[int] = Counter()  # how often the response to a task was withheld
        self.told_head: dict[str, int] = {}
        self.readings: dict[tuple[str, int], Reading] = {}
        self.states: dict[bytes, Block] = {}  # by hash: blocks whose state a node has shown
        self.daemon: Life | None = None
        self.chance = self.random("driver")
        self._gusts, self._pauses = self.random("faults"), self.random("pauses")
        self.tell(str(self.rules))

    # What the parties ask of the world.

    def random(self, name: str) -> Random:
        return Random(digest(self.seed, name))

    def happens(self, fault: str) -> bool:
        rate = self.rates.get(fault)
        return rate is not None and self._gusts.random() < rate

    async def pause(self) -> None:
        """A moment in which everybody else may move, or the daemon may die."""
        share = self._pauses.random()
        await asyncio.sleep(0 if share < 0.6 else (share - 0.6) * 0.2)

    def alive(self, life: int | None = None) -> None:
        """Raises CancelledError in the name of the dead."""
        if self.fuse == 0 or (life is not None and life != self.life):
            raise asyncio.CancelledError

    def committed(self, moved: bool) -> None:
        """Raises CancelledError where this commit is the last thing the daemon ever did; `moved`: some task did."""
        self.commits += 1
        if self.fuse and moved:
            self.fuse -= 1
            self.alive()

    def read(self, calls: Sequence[bytes], block_hash: bytes) -> None:
        """A stage has read the contract, from a node or from what was read at this block before."""
        block = self.states[block_hash]
        piece = asyncio.current_task()
        name = piece.get_name() if piece else ""
        expected_calls = ALL_TASK_RESPONSES.call()[:4]
        for call in calls:
            if call[:4] == expected_calls:
                index = int.from_bytes(call[4:36])
                self.readings[name, index] = Reading(block, self.told_head.get(name, -1))

    def tell(self, line: str) -> None:
        if self._trace is not None:
            self._trace(f"{self.loop.time():9.3f}  {line}")

    # Actions.

    def act(self, action: Callable[[], Awaitable[None]]) -> None:
        """Perform one action and look whether the daemon still stands."""
        self.loop.run_until_complete(self.perform(action))

    async def perform(self, action: Callable[[], Awaitable[None]]) -> None:
        await action()
        await self.reap()
        self.still_stands()

    async def reap(self) -> None:
        if self.fuse == 0:
            await self.crash()

    def still_stands(self) -> None:
        if self.oracle.caught:
            raise Violation(self.oracle.caught[0])
        if self.daemon is not None and (bug := self.daemon.bug) is not None:
            raise Violation(f"the daemon ended: {type(bug).__name__}: {bug}") from bug

    async def start(self) -> None:
        if self.daemon is None:
            self.life += 1
            self.tell(f"the daemon starts, life {self.life}")
            self.daemon = Life(self, self._settings)

    @cached_property
    def _settings(self) -> "Settings":
        rules = self.rules
        key = (
            rules.nodes, rules.confirmations, rules.finality, rules.by_depth, rules.quorum, rules.max_span,
            rules.concurrency, rules.resolve_after, rules.hook_attempts,
        )  # fmt: skip
        if key not in _settings:
            _settings[key] = settings_of(self)
        return _settings[key]

    async def crash(self) -> None:
        if self.daemon is not None:
            self.tell(f"CRASH after {self.commits} commits")
            daemon, self.daemon, self.fuse = self.daemon, None, None
            self.life += 1
            self._verify(daemon)
            await daemon.crash()

    async def light(self, commits: int) -> None:
        """The daemon dies right after so many more commits that move a task."""
        if self.daemon is not None:
            self.fuse = commits

    async def stop(self) -> None:
        await self.reap()
        if self.daemon is not None:
            self.tell("the daemon is told to stop")
            daemon, self.daemon = self.daemon, None
            await daemon.stop()
            self.life += 1
            self._verify(daemon)

    def _verify(self, daemon: Life) -> None:
        if (bug := daemon.bug) is not None:
            raise Violation(f"the daemon ended: {type(bug).__name__}: {bug}") from bug

    async def create(self, count: int) -> None:
        self.tell(f"{count} tasks are asked for")
        self.chain.create(count)

    async def mine(self, count: int = 1, *, quiet: bool = False) -> None:
        self.chain.mine(count)
        head = self.chain.head
        self.tell(f"block {head.number} is mined: {_content(head)}; final is {self.chain.final_number}")
        if self.daemon is not None and not quiet:
            self.daemon.block_is_there()

    async def reorg(self, depth: int, fate: str) -> None:
        depth = min(depth, self.chain.reorg_depth_max)
        if depth > 0:
            self.chain.reorg(depth, fate)
            for replica in self.replicas:
                if self.chance.random() < 0.2:
                    replica.lag(0)
            self.tell(f"REORG of {depth} blocks, content {fate}: the head is now {self.chain.head.number}")
            self.oracle.reorgs += 1
            if self.daemon is not None and self.chance.random() < 0.5:
                self.daemon.block_is_there()

    async def lag(self, number: int, behind: int) -> None:
        replica = self.replicas[number % len(self.replicas)]
        self.tell(f"{replica.name} lags, {behind} blocks behind")
        replica.lag(behind)

    async def follow(self) -> None:
        for replica in self.replicas:
            replica.down = False
            replica.follow()

    async def cut(self, number: int) -> None:
        replica = self.replicas[number % len(self.replicas)]
        self.tell(f"{replica.name} is down")
        replica.down = True

    async def rival(self) -> None:
        """Somebody else answers a task."""
        indices = list(self.chain.asked)[-4:]
        if indices:
            index, created, message = self.chance.choice(indices)
            self.tell(f"somebody else answers task {index}")
            self.chain.respond(index, created, message, b"rival" + self.chance.randbytes(1), 0, False)

    async def person(self) -> None:
        """`watcher tasks retry` or `skip`, beside the daemon."""
        rows = list(self.database.raw.execute("SELECT task_index, state FROM tasks"))
        given_up = [index for index, state in rows if state in ("failed", "skipped", "quarantined")]
        index = self.chance.choice(given_up or [index for index, _ in rows] or [0])
        with suppress(FixUsage), self.database.to_write.begin():
            tx = Tx(self.database.to_write, self.clock.now_ms())
            if self.chance.random() < 0.7:
                state = manual.retry(tx, self.source_id, index)
            else:
                state = manual.skip(tx, self.source_id, index, "a whim")
            complete(tx)
            self.handled.add(index)
            self.tell(f"a person has a hand in task {index}, which is now {state}")

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def close(self) -> None:
        daemon, self.daemon, self.life, self.fuse = self.daemon, None, self.life + 1, None
        if daemon is not None:
            self.loop.run_until_complete(daemon.crash())
        self.loop.close()


def _content(block: Block) -> str:
    return ", ".join(str(transaction.__class__.__name__).lower() for transaction in block.transactions) or "empty"
