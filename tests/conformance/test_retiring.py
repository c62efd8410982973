"""What leaves the ledger with age, and what never does, on every database."""

import pytest
from sqlalchemy import insert

from tests.conformance.rig import LedgerRig, digest, header, make_task
from watcher.ledger import finality, manual, outcomes, queries, retention
from watcher.ledger.retention import RETIRED, Age, Story
from watcher.ledger.tables import journal
from watcher.ledger.transaction import Tx
from watcher.state import ENDED, State

ANY = Age(blocks=0)


async def finish(ledger: LedgerRig, *indices: int, block: int = 101) -> None:
    """These tasks become final, at block 110."""
    await ledger.bring(*(make_task(index, block=block) for index in indices), to=State.RESPONDED)
    await ledger.write(finality.finalise, ledger.source, header(110))
    open_tasks = await ledger.in_state(State.RESPONDED)
    await ledger.write(outcomes.final, open_tasks, header(110))


async def old(ledger: LedgerRig, age: Age = ANY, after_id: int = 0) -> list[Story]:
    upto = await ledger.read(retention.mark)
    return await ledger.read(retention.stories, ledger.source, age, upto, after_id)


async def remove(ledger: LedgerRig, *stories: Story) -> int:
    upto = await ledger.read(retention.mark)
    return await ledger.write(retention.remove, [story.task.id for story in stories], upto)


async def test_only_the_story_of_a_final_task_goes(ledger: LedgerRig) -> None:
    await finish(ledger, 0, 1)
    before = await ledger.rows()
    (first, second) = await old(ledger)
    assert [line.to_state for line in first.journal][-1] == State.FINAL
    assert [attempt.outcome for attempt in first.attempts] == ["answered", "accepted"]
    assert await remove(ledger, first) == len(first.journal) + len(first.attempts)
    assert await ledger.rows() == before
    assert await ledger.story(0) == ([], [])
    assert await ledger.story(1) == (second.journal, second.attempts)
    assert [story.task.task_index for story in await old(ledger)] == [1]


async def test_what_is_not_decided_in_a_final_block_is_never_old(ledger: LedgerRig) -> None:
    await finish(ledger, 0)
    await ledger.bring(make_task(1), to=State.READY)
    await ledger.write(manual.skip, ledger.source, 1, "")
    await ledger.bring(make_task(2), to=State.UNKNOWN)
    assert [story.task.task_index for story in await old(ledger)] == [0]
    rows = {row.task_index: row.id for row in await ledger.rows()}
    upto = await ledger.read(retention.mark)
    await ledger.write(retention.remove, list(rows.values()), upto)
    for index in (1, 2):
        assert (await ledger.story(index))[0], "only what is final goes, whoever asks"
    assert set(RETIRED) < ENDED


async def test_what_one_node_alone_calls_final_is_not_old(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.RESPONDED)
    await ledger.write(finality.finalise, ledger.source, header(110), firm=False)
    await ledger.write(outcomes.final, await ledger.in_state(State.RESPONDED), header(110))
    await ledger.bring(make_task(1), to=State.READY)
    await ledger.write(outcomes.expired, await ledger.in_state(State.READY))
    assert (await ledger.state(0), await ledger.state(1)) == (State.FINAL, State.EXPIRED)
    assert await old(ledger) == []
    await ledger.write(finality.finalise, ledger.source, header(111))
    assert [story.task.task_index for story in await old(ledger)] == [0, 1]


async def test_age_counts_blocks_below_the_final_one_and_time_without_a_change(ledger: LedgerRig) -> None:
    await finish(ledger, 0, block=101)
    assert len(await old(ledger, Age(blocks=9))) == 1  # 110 is final
    assert await old(ledger, Age(blocks=10)) == []
    changed_ms = (await ledger.row(0)).updated_at_ms
    assert await old(ledger, Age(before_ms=changed_ms)) == []
    assert len(await old(ledger, Age(before_ms=changed_ms + 1))) == 1
    assert await old(ledger, Age(blocks=10, before_ms=changed_ms + 1)) == []


@pytest.mark.edits_rows
async def test_lines_written_after_the_export_stay(ledger: LedgerRig) -> None:
    await finish(ledger, 0)
    (story,) = await old(ledger)
    upto = await ledger.read(retention.mark)
    late = {"task_id": story.task.id, "at_ms": 1, "from_state": "final", "to_state": "final", "why": "later"}

    def write(tx: Tx) -> None:
        tx.conn.execute(insert(journal), [late | {"attempt_id": story.attempts[-1].id}])

    await ledger.write(write)
    await ledger.write(retention.remove, [story.task.id], upto)
    lines, tries = await ledger.story(0)
    assert [line.why for line in lines] == ["later"]
    assert [attempt.id for attempt in tries] == [story.attempts[-1].id]  # what the line names stays with it


async def test_pages_follow_the_row_and_end(ledger: LedgerRig) -> None:
    await finish(ledger, *range(5))
    upto = await ledger.read(retention.mark)
    seen: list[int] = []
    after_id = 0
    while page := await ledger.read(retention.stories, ledger.source, ANY, upto, after_id, 2):
        assert len(page) <= 2
        seen += [story.task.task_index for story in page]
        after_id = page[-1].task.id
    assert seen == [0, 1, 2, 3, 4]


async def test_where_the_stories_went_is_written_down(ledger: LedgerRig) -> None:
    await ledger.write(retention.note_export, ledger.source, 110, "to tasks-0-1.jsonl.gz, sha256 " + digest("x").hex())
    (event,) = await ledger.read(queries.recent_events, ledger.source)
    assert (event.kind, event.block_number) == ("retained", 110)
    assert digest("x").hex() in event.words
