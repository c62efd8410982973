"""The rows that verbs hand to the audit chain: those that the database holds, whatever else the commit does to them.

The fixture compares each of them with the database, and the chain with all rows at the end.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.conformance.rig import ANSWER, LedgerRig, digest, header, make_task, sent
from tests.kit.rereading import rereading
from tests.kit.statements import noted
from watcher.ledger import claims, hook_results, outcomes, reorg, sending
from watcher.ledger.audit.changes import Bound
from watcher.ledger.claims import Release, RetryAt
from watcher.ledger.hook_results import Answered, Unanswered
from watcher.ledger.outcomes import Missing
from watcher.ledger.sending import Settlement
from watcher.ledger.tables import WORDS_LIMIT
from watcher.ledger.transaction import Tx
from watcher.state import State
from watcher.task import Accepted, Response, Unknown

TASKS = 5
AWKWARD = "\0" + "\ud800" + "long " * WORDS_LIMIT


@contextmanager
def questions(ledger: LedgerRig) -> Iterator[list[str]]:
    """The questions about bound rows, as they are asked."""
    seen: list[str] = []

    def note(_conn: object, statement: str, _parameters: object) -> None:
        if statement.startswith("SELECT") and any(f"FROM {table.name.lower()}" in statement for table in Bound):
            seen.append(statement)

    with noted(note, ledger.store._writer._connection._engine):
        yield seen


async def test_no_row_of_an_ordinary_task_is_read_back(ledger: LedgerRig) -> None:
    with rereading() as compared:
        await ledger.bring(*(make_task(index) for index in range(TASKS)), to=State.RESPONDED)
        await ledger.write(outcomes.final, await ledger.in_state(State.RESPONDED), header(120))
    steps = 7  # ready, computed, sending, accepted, responded, final, and the first
    assert compared[Bound.TASKS] == steps * TASKS
    assert compared[Bound.JOURNAL] == steps * TASKS
    assert compared[Bound.ATTEMPTS] == 3 * TASKS, "the hook's, and the beginning and the end of the POST's"


async def test_batch_asks_for_its_tasks_once(ledger: LedgerRig) -> None:
    await ledger.bring(*(make_task(index) for index in range(TASKS)), to=State.READY)
    claimed = await ledger.claim(State.READY)
    items = [Answered(task, Response(ANSWER, "hook 1", 5)) for task in claimed]

    def verb(tx: Tx) -> None:
        assert hook_results.keep_answers(tx, items) == [None] * TASKS

    with questions(ledger) as seen:
        await ledger.store._writer.do(verb)
    of_tasks = [statement for statement in seen if "FROM tasks" in statement and "max(" not in statement]
    # The fixture compares each row that is handed over with the database: that is the other question.
    assert len(of_tasks) == 2, of_tasks


async def test_text_is_bound_as_the_database_cuts_it(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(1), make_task(2), make_task(3), to=State.READY)
    failed, answered, late, skipped = await ledger.claim(State.READY)
    at = RetryAt(0)
    await ledger.write(hook_results.retry_failed, [Unanswered(failed, AWKWARD, 3, at)])
    await ledger.write(hook_results.keep_answers, [Answered(answered, Response(ANSWER, AWKWARD, 5))])
    await ledger.write(claims.release_each, [Release(late, at, AWKWARD)])
    await ledger.write(hook_results.skip, [Unanswered(skipped, AWKWARD, 3)])
    (attempt,) = await ledger.begin(*await ledger.claim(State.COMPUTED))
    settlement = Settlement(attempt, sent(Unknown(AWKWARD), None), at, AWKWARD)
    assert await ledger.write(sending.settle, [settlement]) == [State.UNKNOWN]
    for row in await ledger.rows():
        assert all(len(text or "") <= WORDS_LIMIT for text in (row.error, row.hook_version))


async def test_index_of_256_bits_is_bound(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(2**255 + 1), make_task(2**63), make_task(2**63 - 1), to=State.ACCEPTED)
    assert [row.task_index for row in await ledger.rows()] == [2**63 - 1, 2**63, 2**255 + 1]


async def test_later_change_in_the_same_commit_is_bound(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(1, block=108), to=State.COMPUTED)
    claimed = await ledger.claim(State.COMPUTED)
    digests = {task.row_id: digest("request") for task in claimed}

    def both(tx: Tx) -> None:
        attempts = sending.begin(tx, claimed, "proxy", digests, 30_000)
        sending.settle(tx, [Settlement(attempt, sent(Accepted(digest("tx"))), RetryAt()) for attempt in attempts])
        reorg.rewind(tx, ledger.source, header(105))

    await ledger.write(both)
    assert [(row.state, row.canonical) for row in await ledger.rows()] == [("accepted", True), ("accepted", False)]


async def test_earlier_change_in_the_same_commit_is_bound(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(1, block=108), to=State.SENDING)
    attempts = ledger._flying

    def both(tx: Tx) -> None:
        reorg.rewind(tx, ledger.source, header(105))
        sending.settle(tx, [Settlement(attempt, sent(Accepted(digest("tx"))), RetryAt()) for attempt in attempts])

    await ledger.write(both)
    assert [(row.state, row.canonical) for row in await ledger.rows()] == [("accepted", True), ("accepted", False)]


async def test_claim_stays_where_the_outcome_has_none(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.ACCEPTED)
    (task,) = await ledger.in_state(State.ACCEPTED)
    await ledger.write(outcomes.not_there, [Missing(task, "the chain does not show it")])
    (attempt,) = await ledger.begin(*await ledger.claim(State.WAITING))
    await ledger.write(sending.settle, [Settlement(attempt, sent(Unknown("reset")), RetryAt())])
    row = await ledger.row(0)
    assert (row.tx_hash, row.sig_hash) == (digest("claimed"), digest("sig"))
