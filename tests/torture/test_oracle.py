"""The oracle is not blind: each check finds the lie it is there for, and an honest story passes all of them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.torture.evidence import Evidence, Request, Row
from tests.torture.oracle import CHECKS, FLIGHT_MS, violations_of
from tests.torture.plan import make_plan
from tests.torture.world import ChainTask, Past, replace_block

NOW_MS = 1_000_000
TASKS = [ChainTask(index, f"0xaa{index}", 10 + index, f"0xbb{index}", f"0xcc{index}") for index in range(3)]
GONE = ChainTask(2, "0xdead", 11, "0xbbdead", "")
ANSWERS = ["0x00", "0x01", "0x02"]
RIVAL = "0xffff"


def honest() -> Evidence:
    """Tasks 0 and 1 answered by us, 2 by a rival; another task 2 was reorganised away after its answer was sent."""
    past = Past(died_ms={GONE: NOW_MS + 500}, heads=[(NOW_MS, 12), (NOW_MS + 1000, 14)])
    sent = [Request(NOW_MS, task.index, task.created_block, task.message, ANSWERS[task.index]) for task in TASKS]
    sent += [Request(NOW_MS, GONE.index, GONE.created_block, GONE.message, "0xdd")]
    rows = [
        Row(task.index + 1, task.index, task.task_hash, "final", True, ANSWERS[task.index], 1) for task in TASKS[:2]
    ]
    rows += [Row(3, 2, TASKS[2].task_hash, "final_other", True, ANSWERS[2], 1)]
    rows += [Row(4, 2, GONE.task_hash, "orphaned", False, "0xdd", 1)]
    answers = {(task.index, task.task_hash): {ANSWERS[task.index]} for task in TASKS} | {(2, GONE.task_hash): {"0xdd"}}
    return Evidence(
        make_plan(3, 1, 1, 1, 1.0),
        past,
        list(TASKS),
        [(0, ANSWERS[0]), (1, ANSWERS[1]), (2, RIVAL)],
        sent,
        rows,
        Counter({(None, "seen"): 4, ("seen", "ready"): 4}),
        answers,
        Counter(),
        Counter(),
        [{"state": row.state} for row in rows],
        {"latest_task_num": 3, "known": 3, "answered_by_us": 2, "ok": True},
        window_blocks=100,
    )


def change(e: Evidence, number: int, **values: object) -> None:
    e.rows[number] = replace(e.rows[number], **values)  # type: ignore[arg-type]


def send(e: Evidence, at_ms: int, task: ChainTask, answer: str) -> None:
    e.requests.append(Request(at_ms, task.index, task.created_block, task.message, answer))


def never_on_chain(e: Evidence) -> None:
    send(e, NOW_MS, replace_block(replace(TASKS[0], message="0xforged")), ANSWERS[0])


def too_late(e: Evidence) -> None:
    e.past.heads += [(NOW_MS + 2000, 500), (NOW_MS + 60_000, 501)]
    send(e, NOW_MS + 2001 + FLIGHT_MS, TASKS[0], ANSWERS[0])


LIES: list[tuple[str, Callable[[Evidence], object]]] = [
    ("lost", lambda e: e.rows.pop(0)),
    ("lost", lambda e: change(e, 0, canonical=False)),
    ("lost", lambda e: e.tasks.pop(0)),
    ("not ended", lambda e: change(e, 0, state="accepted")),
    ("answered twice", lambda e: e.responses.append((0, ANSWERS[0]))),
    ("answered twice", lambda e: send(e, NOW_MS, TASKS[0], "0x99")),
    ("false success", lambda e: e.responses.pop(0)),
    ("false success", lambda e: change(e, 2, state="final")),
    ("false success", lambda e: change(e, 0, state="final_other")),
    ("false success", lambda e: change(e, 3, state="final")),
    ("false failure", lambda e: change(e, 0, state="expired")),
    ("false failure", lambda e: change(e, 0, state="failed")),
    ("false failure", lambda e: change(e, 1, state="quarantined")),
    ("false failure", lambda e: change(e, 1, state="orphaned")),
    ("wrong task", never_on_chain),
    ("wrong task", lambda e: send(e, NOW_MS + 501 + FLIGHT_MS, GONE, "0xdd")),
    ("wrong task", lambda e: e.hook_answers.update({(0, TASKS[0].task_hash): {"0x77"}})),
    ("late", too_late),
    ("unrecorded", lambda e: send(e, NOW_MS, TASKS[0], ANSWERS[0])),
    ("unrecorded", lambda e: e.transitions.update([("final", "seen")])),
    ("miscounted", lambda e: e.listed.pop()),
    ("miscounted", lambda e: e.proof.update(known=2)),
    ("miscounted", lambda e: setattr(e, "proof_code", 1)),
    ("leaked", lambda e: e.leaks.append("in the log")),
    ("died", lambda e: e.past.deaths.append("exit code 1")),
]


def test_an_honest_story_passes_every_check() -> None:
    assert violations_of(honest()) == {name: [] for name in CHECKS}


@pytest.mark.parametrize(("check", "lie"), LIES)
def test_each_lie_is_found_by_its_check(check: str, lie: Callable[[Evidence], object]) -> None:
    evidence = honest()
    lie(evidence)
    assert violations_of(evidence)[check]


def test_every_check_has_a_lie_it_finds() -> None:
    assert {check for check, _ in LIES} == set(CHECKS)
