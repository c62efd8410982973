"""Random sequences of verbs, right and wrong ones, never break what the ledger promises."""

import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, Row, select
from sqlalchemy.engine import URL

from tests import single_results
from tests import single_results as hook_results
from tests.conformance.rig import CHAIN_ID, DIGEST, digest, header, make_response, make_task, sent
from tests.kit.clocks import SetClock
from watcher.errors import FixUsage, IllegalMove, LostLease
from watcher.ledger import (
    absences,
    by_index,
    claims,
    coverage,
    ended,
    finality,
    ingest,
    manual,
    outcomes,
    reorg,
    sending,
)
from watcher.ledger.claims import RetryAt
from watcher.ledger.engine import open_engine
from watcher.ledger.outcomes import Missing
from watcher.ledger.rows import WITH_SOURCE, open_task
from watcher.ledger.sending import Attempt, Settlement
from watcher.ledger.source import open_source
from watcher.ledger.tables import attempts, journal, responses, sources, tasks
from watcher.ledger.tables import coverage as coverage_table
from watcher.ledger.transaction import Tx
from watcher.state import ENDED, LEGAL, NOT_HELD, RESPONDED, State
from watcher.task import Accepted, Later, OpenTask, Refused, Response, Task, Unknown

_LEASE_MS = 1_000
_INDICES = range(4)
_managers = itertools.count(1)

VERBS = [
    "record", "reorg", "respond", "finalise", "claim", "tick", "admit", "answer", "old answer", "fail", "skip",
    "postpone", "release", "begin", "accept", "refuse", "block", "unknown", "recover", "restart", "ours", "theirs",
    "not there", "final", "taken back", "expired", "quarantine", "look again",
    "held after all", "by hand", "cover",
]  # fmt: skip


# These have no holder who could be late; a refusal would stop the stage for good.
NEVER_REFUSED = {"record", "respond", "reorg", "finalise", "recover", "restart", "claim"}

# What usually follows on what: without it hardly any sequence would get to an end.
USUAL = ["record", "admit", "claim", "answer", "claim", "begin", "accept", "respond", "ours", "finalise", "final"]

_PICK = st.integers(0, 59)
STEP = st.one_of(
    st.tuples(st.sampled_from(VERBS), _PICK).map(lambda step: [step]),
    st.tuples(st.integers(2, len(USUAL)), _PICK).map(lambda cut: [(name, cut[1]) for name in USUAL[: cut[0]]]),
)


@dataclass
class World:
    """A chain that forks at will, and a careless program on top that holds on to everything it ever read."""

    engine: Engine
    clock: SetClock = field(default_factory=SetClock)
    manager: bytes = b""
    source: int = 0
    block: int = 101
    fork: int = 0
    final: int = -1
    claimed: list[OpenTask] = field(default_factory=list)
    begun: list[Attempt] = field(default_factory=list)
    answers: dict[int, bytes] = field(default_factory=dict)
    ended: dict[int, str] = field(default_factory=dict)
    unread: list[tuple[int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.manager = next(_managers).to_bytes(20, "big")
        self.source = self.do(open_source, CHAIN_ID, self.manager, 100).source_id

    def do(self, verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self.engine.begin() as conn:
            tx = Tx(conn, self.clock.now_ms())
            result = verb(tx, *args, **kwargs)
            ended.keep_counts(tx)
            return result

    def act(self, name: str, pick: int) -> None:
        """One verb on one of the tasks held, however stale. A refusal must leave no trace (see `check`)."""
        getattr(self, "_" + name.replace(" ", "_"))(pick)

    def pick_claimed(self, pick: int) -> list[OpenTask]:
        return [self.claimed[pick % len(self.claimed)]] if self.claimed else []

    def each(self, pick: int, verb: Callable[..., Any], *args: Any) -> None:
        for task in self.pick_claimed(pick):
            self.do(verb, task, *args)

    def to_confirm(self) -> list[OpenTask]:
        with self.engine.connect() as conn:
            mine = WITH_SOURCE.where(tasks.c.source_id == self.source).order_by(tasks.c.id)
            return [open_task(row) for row in conn.execute(mine)]

    def canonical(self) -> dict[int, Task]:
        mine = WITH_SOURCE.where(tasks.c.source_id == self.source, tasks.c.canonical)
        with self.engine.connect() as conn:
            return {row.task_index: open_task(row).task for row in conn.execute(mine)}

    # The chain.

    def _record(self, pick: int) -> None:
        """The contract numbers its tasks: an index the chain holds already can only be read once more."""
        self.block += 1
        index, content = pick % len(_INDICES), (pick % 3, self.block)
        deadline = None if pick % 5 == 0 else self.block + 6
        new = make_task(index, block=self.block, content=content, fork=self.fork, deadline=deadline)
        read = self.canonical().get(index, new)
        self.do(ingest.record, self.source, [read], [], header(self.block, self.fork), self.block)

    def _respond(self, pick: int) -> None:
        self.block += 1
        response = make_response(pick % len(_INDICES), self.block, bytes([pick % 2]), self.fork)
        self.do(ingest.record, self.source, [], [response], header(self.block, self.fork), self.block)

    def _reorg(self, pick: int) -> None:
        to = max(self.final, 100, self.block - pick % 5)
        self.do(reorg.rewind, self.source, header(to, self.fork))
        self.block, self.fork = to + pick % 4, self.fork + 1
        kept = self.canonical()
        lost = {task.task.task_index: task.task for task in self.to_confirm() if task.task.task_index not in kept}
        back = [
            replace(task, seen_at=replace(task.seen_at, block_hash=header(task.created_block, self.fork).hash))
            for task in lost.values()
            if to < task.created_block <= self.block
        ]
        self.do(ingest.record, self.source, back, [], header(self.block, self.fork), self.block)

    def _finalise(self, pick: int) -> None:
        self.final = max(self.final, self.block - pick % 4)
        self.do(finality.finalise, self.source, header(self.final, self.fork))

    # The stages.

    def _claim(self, pick: int) -> None:
        states = [[State.READY], [State.COMPUTED, State.WAITING, State.BLOCKED]][pick % 2]
        self.claimed += self.do(claims.claim, self.source, states, 2, _LEASE_MS)

    def _tick(self, pick: int) -> None:
        self.clock.at_ms += (pick % 3) * 600

    def _answer(self, pick: int) -> None:
        self.each(pick, hook_results.keep_answer, Response(bytes([pick % 2]), f"hook {pick}", 1))

    def _old_answer(self, pick: int) -> None:
        self.each(pick, hook_results.keep_old_answer)

    def _fail(self, pick: int) -> None:
        self.each(pick, hook_results.hook_failed, "it raised", 1, None if pick % 3 == 0 else RetryAt())

    def _skip(self, pick: int) -> None:
        self.each(pick, hook_results.hook_skipped, "", 1)

    def _postpone(self, pick: int) -> None:
        self.each(pick, hook_results.postpone, Later(1), RetryAt(0, self.block + pick % 2), 1)

    def _release(self, pick: int) -> None:
        self.each(pick, single_results.release, RetryAt(pick % 2 * 500))

    def _begin(self, pick: int) -> None:
        picked = self.pick_claimed(pick)
        self.begun += self.do(sending.begin, picked, "proxy", {task.row_id: DIGEST for task in picked}, _LEASE_MS)

    def _settle(self, pick: int, result: Accepted | Refused | Unknown) -> None:
        if self.begun:
            attempt = self.begun[pick % len(self.begun)]
            self.do(sending.settle, [Settlement(attempt, sent(result), RetryAt())])

    def _accept(self, pick: int) -> None:
        self._settle(pick, Accepted(digest(pick)))

    def _refuse(self, pick: int) -> None:
        self._settle(pick, Refused("no"))

    def _block(self, pick: int) -> None:
        self._settle(pick, Refused("who are you?", 401, endpoint=True))

    def _unknown(self, pick: int) -> None:
        self._settle(pick, Unknown("reset"))

    def _recover(self, pick: int) -> None:
        self.do(sending.recover_stale, self.source, all_of_them=False)

    def _restart(self, pick: int) -> None:
        self.do(sending.recover_stale, self.source, all_of_them=True)
        self.claimed, self.begun = [], []

    def _observe(self, verb: Callable[..., Any], pick: int, *args: Any) -> None:
        """Confirmation and admission hold what they read, without a claim; sometimes they read long ago."""
        if pick % 2:
            self.claimed += self.to_confirm()
        picked = self.pick_claimed(pick)
        if picked:
            self.do(verb, picked, *args)

    def _admit(self, pick: int) -> None:
        self._observe(outcomes.admitted, pick | 1, header(self.block))

    def _show(self, pick: int, *, by_us: bool) -> None:
        """The judge compares bytes before it says whose answer it is, and never looks at what is on its way."""
        with self.engine.connect() as conn:
            read = conn.execute(select(responses).where(responses.c.source_id == self.source)).all()
        if not read:
            return
        event = read[pick % len(read)]
        response = make_response(event.task_index, event.block_number, event.message)
        seen = replace(response.seen_at, block_hash=event.block_hash, log_index=event.log_index)
        response = replace(response, response_hash=event.response_hash, seen_at=seen)
        for task in self.to_confirm():
            ours = task.response == response.message
            if task.task.task_index == response.task_index and task.state is not State.SENDING and ours is by_us:
                self.do(outcomes.answered, [(task, response)], by_us=by_us)

    def _ours(self, pick: int) -> None:
        self._show(pick, by_us=True)

    def _theirs(self, pick: int) -> None:
        self._show(pick, by_us=False)

    def _not_there(self, pick: int) -> None:
        for task in self.pick_claimed(pick):
            self.do(outcomes.not_there, [Missing(task, "nothing there")])

    def _final(self, pick: int) -> None:
        self._observe(outcomes.final, pick, header(self.final))

    def _taken_back(self, pick: int) -> None:
        self._observe(outcomes.taken_back, pick, header(self.final))

    def _expired(self, pick: int) -> None:
        self._observe(outcomes.expired, pick)

    def _quarantine(self, pick: int) -> None:
        self._observe(outcomes.never_there, pick, header(self.final))

    def _look_again(self, pick: int) -> None:
        self._observe(outcomes.look_again, pick, self.block + 1)

    def _held_after_all(self, pick: int) -> None:
        aside = [task for task in self.to_confirm() if task.state in NOT_HELD]
        self.do(absences.held_after_all, self.source, aside[: 1 + pick % 2])

    def _by_hand(self, pick: int) -> None:
        with suppress(FixUsage):
            self.do(manual.skip, self.source, pick % len(_INDICES), "")

    def _cover(self, pick: int) -> None:
        """As the search for holes does. The indices may have been read before the last change of `covered`."""
        first = pick % 2
        with self.engine.connect() as conn:
            before = coverage.covered(conn, self.source, first)
            known = by_index.known_indices(conn, self.source, before.next_index, len(_INDICES))
        upto = next(index for index in itertools.count(before.next_index) if index not in known)
        self.unread = [*self.unread[-1:], (first, upto, before.losses)]
        self.do(coverage.extend, self.source, *self.unread[pick % len(self.unread)])

    # The promises.

    def _counts_are_kept(self) -> None:
        with self.engine.connect() as conn:
            assert ended.kept(conn, self.source) == ended.recounted(conn, self.source)
            row = conn.execute(select(coverage_table).where(coverage_table.c.source_id == self.source)).one_or_none()
            if row is not None and row.next_index > row.first_index:
                known = by_index.known_indices(conn, self.source, row.first_index, row.next_index - 1)
                assert known == {*range(row.first_index, row.next_index)}, "what is covered has no hole"

    def check(self) -> None:
        self._counts_are_kept()
        with self.engine.connect() as conn:
            rows = conn.execute(select(tasks).where(tasks.c.source_id == self.source)).all()
            response_rows = conn.execute(select(responses).where(responses.c.source_id == self.source)).all()
            cursor = conn.execute(select(sources).where(sources.c.id == self.source)).one()
            lines, tries = (
                conn.execute(
                    select(table)
                    .join(tasks)
                    .where(tasks.c.source_id == self.source)
                    .order_by(table.c.task_id, table.c.id)
                ).all()
                for table in (journal, attempts)
            )
        for row in rows:
            own_lines = [line for line in lines if line.task_id == row.id]
            _journal_is_a_chain(row, own_lines)
            _attempts_are_counted(row, own_lines, [attempt for attempt in tries if attempt.task_id == row.id])
            self._answer_stands(row)
            self._nothing_final_unproven(row, response_rows, cursor)
        canonical = [row.task_index for row in rows if row.canonical]
        assert len(canonical) == len(set(canonical)), "one index has at most one canonical task"

    def _answer_stands(self, row: Row[Any]) -> None:
        if row.response is not None:
            assert self.answers.setdefault(row.id, row.response) == row.response, "an answer is written once"
        else:
            assert row.id not in self.answers, "an answer never goes away"

    def _nothing_final_unproven(self, row: Row[Any], response_rows: Any, cursor: Row[Any]) -> None:
        if State(row.state) in RESPONDED:
            assert row.canonical
            assert any(
                (response.task_index, response.response_hash, response.block_number) ==
                (row.task_index, row.response_hash, row.responded_block)
                for response in response_rows
            ), "answered means that the event is in the ledger"  # fmt: skip
        if State(row.state) in {State.FINAL, State.FINAL_OTHER}:
            assert self.ended.setdefault(row.id, row.state) == row.state
        else:
            assert row.id not in self.ended, "final is final"
        assert cursor.final_block == self.final


def _journal_is_a_chain(row: Row[Any], lines: Any) -> None:
    assert lines[0].from_state is None
    assert lines[0].to_state == State.SEEN
    assert lines[-1].to_state == row.state
    for before, after in itertools.pairwise(lines):
        assert after.from_state == before.to_state
        assert State(after.to_state) in LEGAL[State(after.from_state)]


def _attempts_are_counted(row: Row[Any], lines: Any, tries: Any) -> None:
    posts = [attempt for attempt in tries if attempt.kind == "post"]
    assert [post.number for post in posts] == list(range(1, row.attempts + 1))
    assert row.hook_attempts == len(
        [attempt for attempt in tries if attempt.kind == "hook" and attempt.outcome == "failed"]
    )
    begun = [line.attempt_id for line in lines if line.to_state == State.SENDING]
    assert begun == [post.id for post in posts], "each sending has its attempt, begun in the same commit"
    open_ = [post.id for post in posts if post.outcome is None]
    if row.state == State.SENDING:
        assert posts[-1].id in open_
    if State(row.state) in ENDED:
        assert row.lease_until_ms == 0


@example(
    steps=[
        [("record", 0)],
        [("record", 1)],
        [("quarantine", 1)],
        [("record", 1), ("admit", 1)],
        [("held after all", 0)],  # while its index has another task
    ]
)
@settings(
    max_examples=20,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(steps=st.lists(STEP, min_size=5, max_size=25))
def test_no_sequence_of_verbs_breaks_a_promise(url: URL, steps: list[list[tuple[str, int]]]) -> None:
    engine = open_engine(url)
    try:
        world = World(engine)
        for several in steps:
            for name, pick in several:
                try:
                    world.act(name, pick)
                except (LostLease, IllegalMove):
                    assert name not in NEVER_REFUSED
            world.check()
    finally:
        engine.dispose()
