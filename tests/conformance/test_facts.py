"""What was last read of the contract: it is remembered, a change leaves an event, and deadlines follow the window."""

from tests.conformance.rig import LedgerRig, make_task
from watcher.ledger import manual, outcomes, queries, source
from watcher.ledger.source import Change, Fact
from watcher.state import State


async def events(ledger: LedgerRig) -> list[tuple[str, int, str]]:
    rows = await ledger.read(queries.recent_events, ledger.source)
    return [(row.kind, row.block_number, row.words) for row in rows]


async def deadlines(ledger: LedgerRig) -> list[int | None]:
    return [row.deadline_block for row in await ledger.rows()]


async def test_what_is_read_first_is_kept_without_a_word(ledger: LedgerRig) -> None:
    assert (
        await ledger.write(source.record_contract, ledger.source, {"aggregator": "0xaa", "implementation": None}, 105)
        == []
    )
    assert await ledger.read(source.known_facts, ledger.source) == {
        "aggregator": Fact("0xaa", 105),
        "implementation": Fact(None, 105),
    }
    assert await events(ledger) == []


async def test_a_change_is_told_once_and_what_was_not_read_stays(ledger: LedgerRig) -> None:
    await ledger.write(
        source.record_contract, ledger.source, {"aggregator": "0xaa", "implementation": None, "code hash": "0x01"}, 105
    )
    contract_state = {"aggregator": "0xbb", "implementation": "0xcc"}
    changes = await ledger.write(source.record_contract, ledger.source, contract_state, 110)
    assert changes == [Change("aggregator", "0xaa", "0xbb"), Change("implementation", None, "0xcc")]
    assert await ledger.write(source.record_contract, ledger.source, contract_state, 120) == []
    assert await ledger.read(source.known_facts, ledger.source) == {
        "aggregator": Fact("0xbb", 110),
        "implementation": Fact("0xcc", 110),
        "code hash": Fact("0x01", 105),
    }
    assert await events(ledger) == [
        (source.CHANGED, 110, "its implementation was none, and is 0xcc now"),
        (source.CHANGED, 110, "its aggregator was 0xaa, and is 0xbb now"),
    ]


async def test_later_deadlines_hold_at_once_and_earlier_ones_only_when_told(ledger: LedgerRig) -> None:
    tasks = [make_task(0, block=101, deadline=141), make_task(1, block=103, deadline=143), make_task(2, deadline=None)]
    await ledger.record(*tasks)
    assert await ledger.write(source.reset_deadlines, ledger.source, 30, shorten=False) == 0
    assert await deadlines(ledger) == [141, 143, None]
    assert await ledger.write(source.reset_deadlines, ledger.source, 30, shorten=True) == 2
    assert await deadlines(ledger) == [131, 133, None]
    assert await ledger.write(source.reset_deadlines, ledger.source, 50, shorten=False) == 2
    assert await deadlines(ledger) == [151, 153, None]
    assert await ledger.write(source.reset_deadlines, ledger.source, 50, shorten=True) == 0


async def test_what_has_ended_keeps_its_deadline(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0, block=101, deadline=141), make_task(1, block=101, deadline=141))
    await ledger.write(manual.skip, ledger.source, 0, "")
    assert await ledger.write(source.reset_deadlines, ledger.source, 50, shorten=True) == 1
    assert await deadlines(ledger) == [141, 151]


async def test_reason_without_an_answer_is_added_for_expired_tasks_only(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0), make_task(1))
    first, second = await ledger.in_state(State.SEEN)
    await ledger.write(outcomes.look_again, [first], 111, "the API was down")
    await ledger.write(outcomes.expired, [first])
    await ledger.write(outcomes.explained, {first.row_id: "the contract is paused", second.row_id: "the same"})
    assert [row.error for row in await ledger.rows()] == ["the contract is paused; before: the API was down", None]
