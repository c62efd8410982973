"""Every page of the dashboard is made from a ledger of either database."""

from collections.abc import Mapping

import pytest

from tests.conformance.rig import CHAIN_ID, MANAGER, LedgerRig, header, make_response, make_task
from watcher.dashboard import pages
from watcher.dashboard.gate import Visitor
from watcher.dashboard.rendering import render
from watcher.dashboard.view import DashboardPlan, Page, View
from watcher.health.readings import Limits, NodeSeen, Observations
from watcher.health.verdict import evaluate
from watcher.ledger import outcomes
from watcher.report.payload import Decoder
from watcher.state import State

PLAN = DashboardPlan("squares", CHAIN_ID, f"0x{MANAGER.hex()}", 2, 5, observes=False, make_decoder=Decoder)
HEALTH = evaluate(Observations(at_ms=1_000, started=True, node=NodeSeen(answered_ago_s=0.5, head_block=100)), Limits())
BIG = 2**255

ASKED: list[tuple[str, Mapping[str, str]]] = [
    ("overview", {}),
    ("overview", {"blocks": "1000"}),
    ("tasks", {}),
    ("tasks", {"state": "final", "before": f"{BIG}.7"}),
    ("tasks", {"reason": "100%", "since": "2000-01-01", "answered_by": "ours", "blocks": "1..200"}),
    ("tasks", {"index": str(BIG)}),
    ("attempts", {}),
    ("attempts", {"kind": "post", "outcome": "accepted", "before": "9"}),
    ("health", {}),
    ("audit", {}),
    ("shadow", {}),
]


@pytest.mark.parametrize(("name", "query"), ASKED, ids=str)
async def test_page_is_made_from_either_database(ledger: LedgerRig, name: str, query: Mapping[str, str]) -> None:
    await ledger.bring(make_task(0), make_task(1), to=State.RESPONDED)
    await ledger.write(outcomes.final, await ledger.in_state(State.RESPONDED), header(110))
    await ledger.record(make_task(2, block=103), answered=[make_response(2, 106, b"other")])
    await ledger.record(make_task(BIG, block=104))

    def made(conn: object) -> tuple[Page, str]:
        view = View(conn, ledger.source, PLAN, HEALTH, None, ledger.clock.now_ms(), query)  # type: ignore[arg-type]
        page = pages.make(name, view)
        shell = {
            "plan": PLAN, "health": HEALTH, "stuck": None, "now_ms": view.now_ms, "here": name, "who": Visitor(),
            "may_read": True, "has_token": True, "version": "1",
        }  # fmt: skip
        return page, render(page.template, {**shell, **page.values})

    page, html = await ledger.read(made)
    assert (page.status, "</html>" in html) == (200, True), html[-500:]
