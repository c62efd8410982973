"""Replicas of one ledger: one leads, each term is fenced, and the shares of the API are never more than the budget."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, update
from sqlalchemy.exc import OperationalError

from tests.conformance.rig import LedgerRig, header, make_task
from watcher.errors import NotLeading
from watcher.ledger import ingest, replicas, sending, stalled
from watcher.ledger.claims import claim
from watcher.ledger.engine import server_arguments
from watcher.ledger.replicas import LEASE_MS, Identity, Roll
from watcher.ledger.side_tables import leaders
from watcher.ledger.side_tables import replicas as rows
from watcher.state import State

ALL = ("watch", "respond", "submit", "confirm")


class Group:
    """Replicas of the ledger under test, in this process."""

    def __init__(self, ledger: LedgerRig, budget: int = 10) -> None:
        self.ledger, self.budget = ledger, budget
        self.used: dict[int, int] = {}

    @contextmanager
    def conn(self) -> Iterator[Connection]:
        with self.ledger.engine.begin() as conn:
            yield conn

    def identity(self, *roles: str, process: str = "") -> Identity:
        return Identity("host", process, "1", roles or ALL)

    def join(self, *roles: str, process: str = "", is_gone: Callable[[str], bool] = lambda _: False) -> int:
        with self.conn() as conn:
            replica_id, _ = replicas.join(conn, self.ledger.source, self.identity(*roles, process=process), is_gone)
        return replica_id

    def beat(self, replica_id: int, *roles: str, used: int = 0, may_lead: bool = True) -> Roll:
        with self.conn() as conn:
            return replicas.beat(
                conn, self.ledger.source, replica_id, self.identity(*roles), used, self.budget, may_lead=may_lead
            )

    def let_pass(self, ms: int) -> None:
        """Move every time of the replicas into the past: the database's own clock cannot be set."""
        with self.conn() as conn:
            conn.execute(update(rows).values(seen_at_ms=rows.c.seen_at_ms - ms))
            conn.execute(update(leaders).values(until_ms=leaders.c.until_ms - ms))


@pytest.fixture
def group(ledger: LedgerRig) -> Group:
    return Group(ledger)


async def test_the_first_leads_until_its_lease_ends_then_the_next_in_a_new_term(group: Group) -> None:
    first, second = group.join(), group.join()
    led = group.beat(first)
    assert (led.leader_id, led.term) == (first, 1)
    assert group.beat(second).leader_id == first
    group.let_pass(LEASE_MS - 1000)
    assert group.beat(second).leader_id == first
    group.let_pass(2000)
    taken = group.beat(second)
    assert (taken.leader_id, taken.term, taken.gone) == (second, 2, (first,))
    assert [replica.id for replica in taken.live] == [second]
    late = group.beat(first)
    assert (late.leader_id, late.term) == (second, 2), "whoever wakes up late joins again, and follows"
    assert [replica.id for replica in late.live] == [first, second]


async def test_a_lead_that_was_given_back_is_taken_at_once(group: Group) -> None:
    first, second = group.join(), group.join()
    group.beat(first)
    with group.conn() as conn:
        replicas.resign(conn, group.ledger.source, first)
    assert group.beat(first, may_lead=False).leader_id is None
    assert group.beat(second).leader_id == second


async def test_a_replica_without_the_role_never_leads(group: Group) -> None:
    replica = group.join("respond")
    assert group.beat(replica, "respond").leader_id is None


async def test_a_process_of_this_host_that_has_ended_leaves_at_the_next_start(group: Group) -> None:
    killed = group.join(process="boot/1/77/5")
    group.beat(killed)
    restarted = group.join(process="boot/1/78/6", is_gone=lambda process: process == "boot/1/77/5")
    roll = group.beat(restarted)
    assert (roll.leader_id, [replica.id for replica in roll.live]) == (restarted, [restarted])


async def test_no_commit_of_an_earlier_term_moves_the_marks(group: Group) -> None:
    ledger = group.ledger
    first, second = group.join(), group.join()
    term = group.beat(first).term
    ledger.store.join(first, lambda tx: replicas.require_lead(tx, ledger.source, first, term), lambda: True)
    await ledger.write(ingest.record, ledger.source, [make_task(0)], [], header(110), 110)
    group.let_pass(LEASE_MS + 1)
    assert group.beat(second).leader_id == second
    with pytest.raises(NotLeading):
        await ledger.write(ingest.record, ledger.source, [make_task(1)], [], header(111), 111)
    assert (await ledger.store.cursor()).block == 110
    assert len(await ledger.claim(State.SEEN)) == 1, "what does not move the marks is still allowed"


async def test_the_tasks_of_a_replica_that_is_gone_are_free(group: Group) -> None:
    ledger = group.ledger
    await ledger.bring(make_task(0), make_task(1), make_task(2), to=State.COMPUTED)
    dead, alive = group.join(), group.join()

    async def take(holder: int, count: int = 1) -> list[Any]:
        def verb(tx: Any) -> list[Any]:
            tx.replica_id = holder
            return claim(tx, ledger.source, [State.COMPUTED], count, 60_000)

        return await ledger.write(verb)

    (claimed,) = await take(dead)
    (begun,) = await take(dead)
    await ledger.begin(begun)
    (kept,) = await take(alive)
    group.let_pass(LEASE_MS + 1)
    assert group.beat(alive).gone == (dead,)
    assert await ledger.write(sending.recover_orphaned, ledger.source, patience_blocks=3) == 1
    (freed,) = await ledger.claim(State.COMPUTED)
    assert freed.task.task_index == claimed.task.task_index
    assert freed.fence == claimed.fence + 1
    assert (await ledger.row(begun.task.task_index)).state == State.UNKNOWN
    assert (await ledger.row(kept.task.task_index)).lease_until_ms > 0


async def test_slots_change_hands_when_their_requests_have_ended(group: Group) -> None:
    first = group.join("submit")
    assert group.beat(first, "submit").slots == 10
    second = group.join("submit")
    assert group.beat(first, "submit", used=10).slots == 5, "it begins no more than its new share"
    assert group.beat(second, "submit").slots == 0, "ten requests of the first are still on their way"
    assert group.beat(first, "submit", used=7).slots == 5
    assert group.beat(second, "submit").slots == 3
    group.beat(first, "submit", used=5)
    assert group.beat(second, "submit", used=3).slots == 5


async def test_the_shares_never_add_up_to_more_than_the_budget(group: Group) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    group.budget = dice.randrange(2, 12)
    shares: dict[int, int] = {}
    running: dict[int, int] = {}
    for _ in range(60):
        if len(shares) < 4 and dice.random() < 0.2:
            shares[group.join("submit")] = 0
        elif len(shares) > 1 and dice.random() < 0.1:
            gone = dice.choice(list(shares))
            del shares[gone]
            running.pop(gone, None)
            with group.conn() as conn:
                replicas.leave(conn, group.ledger.source, gone)
        for replica in dice.sample(list(shares), len(shares)):
            used = max(shares[replica], running.get(replica, 0))
            shares[replica] = group.beat(replica, "submit", used=used).slots
            # Requests end now and then; as many begin as the share allows.
            left = dice.randrange(running.get(replica, 0) + 1)
            running[replica] = max(left, dice.randrange(shares[replica] + 1) if shares[replica] else 0)
            assert sum(running.values()) <= group.budget
            assert sum(max(shares[each], running.get(each, 0)) for each in shares) <= group.budget
    for _ in range(3):
        for replica in shares:
            shares[replica] = group.beat(replica, "submit", used=shares[replica]).slots
    if shares:
        assert sum(shares.values()) == group.budget
        assert max(shares.values()) - min(shares.values()) <= 1


@contextmanager
def frozen(ledger: LedgerRig, statement: str, *, in_pipeline: bool) -> Iterator[Any]:
    """A session of a process that stands still within a transaction, right behind a statement."""
    psycopg = pytest.importorskip("psycopg")
    with closing(psycopg.connect(**server_arguments(ledger.url))) as session:
        if in_pipeline:  # the server has the statement, and waits for the next one: it does not take this for idle
            session.pgconn.enter_pipeline_mode()
            for text in (b"BEGIN", statement.encode()):
                session.pgconn.send_query_params(text, None)
            session.pgconn.send_flush_request()
            session.pgconn.flush()
        else:
            session.execute(statement)
        yield session


@pytest.mark.parametrize("in_pipeline", [False, True])
@pytest.mark.parametrize("table", ["leaders", "sources"])
async def test_locks_of_a_process_that_stands_still_are_taken(
    group: Group, table: str, in_pipeline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its connection, so that the server would wait for it without limit."""
    ledger = group.ledger
    if ledger.is_sqlite:
        pytest.skip("one process writes it")
    monkeypatch.setattr(stalled, "_LOCK_TIMEOUT_MS", 150)
    monkeypatch.setattr(stalled, "STALLED_MS", 300)
    first, second = group.join(), group.join()
    group.beat(first)
    group.let_pass(LEASE_MS + 1)
    with frozen(ledger, f"SELECT * FROM {table} FOR SHARE", in_pipeline=in_pipeline):
        ended, deadline_s = 0, time.monotonic() + 10
        while not ended:
            assert time.monotonic() < deadline_s
            try:
                ended = group.beat(second).stalled
            except OperationalError:  # the row is locked still
                continue
        assert ended == 1
        assert group.beat(second).leader_id == second
        await ledger.record(make_task(0))


async def test_a_replica_that_joins_waits_for_no_process_that_stands_still(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the only daemon is frozen, and another is started in its place."""
    if group.ledger.is_sqlite:
        pytest.skip("one process writes it")
    monkeypatch.setattr(stalled, "_LOCK_TIMEOUT_MS", 150)
    monkeypatch.setattr(stalled, "STALLED_MS", 300)
    group.beat(group.join())
    with frozen(group.ledger, "SELECT * FROM leaders FOR SHARE", in_pipeline=False):
        deadline_s = time.monotonic() + 10
        while True:
            try:
                group.join()
            except OperationalError:
                assert time.monotonic() < deadline_s
            else:
                break


async def test_sessions_that_only_read_or_work_are_left_alone(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    if group.ledger.is_sqlite:
        pytest.skip("one process writes it")
    replica = group.join()
    monkeypatch.setattr(stalled, "STALLED_MS", -1)
    with frozen(group.ledger, "SELECT * FROM tasks", in_pipeline=False) as reading:
        assert group.beat(replica).stalled == 0
        reading.execute("SELECT 1")
    monkeypatch.undo()
    with frozen(group.ledger, "SELECT * FROM tasks FOR UPDATE", in_pipeline=False) as working:
        assert group.beat(replica).stalled == 0, "it has just asked"
        working.execute("SELECT 1")
