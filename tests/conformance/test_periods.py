"""Periods: stored once, extended where they last, found by the time that they overlap, and bounded."""

import pytest

from tests.conformance.rig import LedgerRig
from watcher.ledger import periods
from watcher.ledger.periods import RUNNING, Period, keep_periods, periods_between

_DAY_MS = 86_400_000


async def _kept(ledger: LedgerRig, since_ms: int = 0, until_ms: int = 2**60) -> list[Period]:
    return await ledger.read(periods_between, ledger.source, since_ms, until_ms)


async def test_period_is_extended_where_it_lasts(ledger: LedgerRig) -> None:
    first = await ledger.write(keep_periods, ledger.source, [Period(RUNNING, 1000, 1000), Period("store", 900, 950)])
    assert [period.row_id is not None for period in first] == [True, True]
    more = [
        Period("chain-rpc", 1500, 1500, "no answer"),
        Period(RUNNING, 1000, 2000, "", first[0].row_id),
    ]
    second = await ledger.write(keep_periods, ledger.source, more)
    assert second[1].row_id == first[0].row_id
    assert [(p.key, p.began_ms, p.last_ms, p.message) for p in await _kept(ledger)] == [
        (RUNNING, 1000, 2000, ""),
        ("store", 900, 950, ""),
        ("chain-rpc", 1500, 1500, "no answer"),
    ]
    assert await _kept(ledger) == [second[1], first[1], second[0]]


async def test_periods_are_found_by_the_time_they_overlap(ledger: LedgerRig) -> None:
    await ledger.write(keep_periods, ledger.source, [Period("a", 0, 99), Period("b", 50, 200), Period("c", 300, 400)])
    assert [p.key for p in await _kept(ledger, 100, 300)] == ["b"]
    assert [p.key for p in await _kept(ledger, 200, 301)] == ["b", "c"]


async def test_oldest_periods_leave_beyond_the_limit(ledger: LedgerRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periods, "KEPT", 3)
    now_ms = ledger.clock.now_ms()
    old, young = now_ms - 3 * _DAY_MS, now_ms - 1000
    for number in range(4):
        await ledger.write(keep_periods, ledger.source, [Period(f"old {number}", old, old)])
    await ledger.write(keep_periods, ledger.source, [Period(f"young {number}", young, young) for number in range(4)])
    assert [p.key for p in await _kept(ledger)] == ["young 0", "young 1", "young 2", "young 3"]
