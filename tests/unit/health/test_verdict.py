"""The judgement, case by case: what is up, what is down and why, what is in danger, and since when."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.health.conditions import (
    API,
    CONDITION_KEYS,
    CONVENTION,
    DEADLINE,
    FINALITY_AT_HEAD,
    FINALITY_BEHIND,
    HOOK,
    NODE_BEHIND,
    NODES_DISAGREE,
    ROOTS,
    RPC,
    STORE,
    UNSHOWN,
    WATCH,
)
from watcher.health.readings import (
    ApiSeen,
    HookSeen,
    Limits,
    NodeSeen,
    Observations,
    ReplicaSeen,
    StageSeen,
    StoreSeen,
    WorkSeen,
)
from watcher.health.status import status_line
from watcher.health.verdict import Health, Status, evaluate

LIMITS = Limits(quiet_node_s=15, stuck_s=60, slow_store_s=15, danger_blocks=10)
WORK = WorkSeen(cursor_block=100, head_block=100, final_block=90)
WELL = Observations(
    at_ms=1_000,
    started=True,
    node=NodeSeen(answered_ago_s=0.5, head_block=100),
    api=ApiSeen(used=True),
    hook=HookSeen(),
    stages=(StageSeen("watch"), StageSeen("submit")),
    work=WORK,
)


def standings(health: Health) -> dict[str, Status]:
    return {service.id: service.status for service in health.services}


def keys(health: Health) -> set[str]:
    return {condition.key for condition in health.conditions}


def test_roots_that_nobody_takes_are_a_condition_beside_green_health() -> None:
    health = evaluate(replace(WELL, roots="audit.webhook: HTTP 503"), LIMITS)
    assert (health.ready, keys(health)) == (True, {ROOTS})
    assert health.conditions[0].message == "audit.webhook: HTTP 503"


def test_health_has_no_condition_when_everything_works() -> None:
    health = evaluate(WELL, LIMITS)
    assert health.ready
    assert health.status is Status.UP
    assert standings(health) == dict.fromkeys((RPC, API, HOOK, STORE, WATCH), Status.UP)
    assert (health.reasons, health.conditions, health.blocks_left) == ((), (), None)
    assert status_line(health) == "block 100, 0 open"


def test_health_is_starting_before_the_first_observation() -> None:
    health = evaluate(Observations(at_ms=1), LIMITS)
    assert not health.ready
    assert health.status is Status.INITIALIZING
    assert Status.DOWN not in standings(health).values()
    assert not Health(at_ms=1).ready
    assert Health(at_ms=1).reasons == ("starting",)


def test_observer_has_no_api_no_hook_and_no_deadline() -> None:
    work = replace(WORK, nearest_deadline_block=103, endangered=1)
    health = evaluate(replace(WELL, api=None, hook=None, work=work), LIMITS)
    assert set(standings(health)) == {RPC, STORE, WATCH}
    assert health.ready


@pytest.mark.parametrize(
    (("change", "service", "expected")),
    [
        (
            {"node": NodeSeen(answered_ago_s=16, reason="http://a: no connection")},
            RPC,
            "no good answer for 16 s (http://a",
        ),
        ({"node": NodeSeen(reason="http://a: no connection")}, RPC, "http://a: no connection"),
        ({"api": ApiSeen(refuses=True, reason="HTTP 401")}, API, "refuses us (HTTP 401)"),
        ({"api": ApiSeen(failures=2, reason="reset")}, API, "2 requests in a row failed (reset)"),
        ({"hook": HookSeen(failures=2, reason="ValueError")}, HOOK, "the last 2 runs failed (ValueError)"),
        ({"hook": HookSeen(failures=2, failed_ago_s=900, waiting=1)}, HOOK, "the last 2 runs failed"),
        (
            {"hook": HookSeen(failures=1, workers=0, reason="oh")},
            HOOK,
            "no worker can be started (oh)",
        ),
        ({"hook": HookSeen(silent_s=21, longest_s=13)}, HOOK, "no result for 21 s"),
        ({"store": StoreSeen(condition="disk is full")}, STORE, "disk is full"),
        ({"store": StoreSeen(waits_s=16)}, STORE, "a write has been waiting for 16 s"),
        ({"stages": (StageSeen("admit", beat_ago_s=61),)}, WATCH, "stage admit has made no step for 61 s"),
        ({"stages": (StageSeen("admit", condition="disagree", waiting_s=15),)}, WATCH, "waiting for 15 s (disagree)"),
        ({"work": replace(WORK, overdue_s=61, moved_ago_s=70)}, WATCH, "tasks wait and none has moved for 70 s"),
    ],
)
def test_one_service_is_down_with_its_reason_and_no_other(
    change: dict[str, object], service: str, expected: str
) -> None:
    health = evaluate(replace(WELL, **change), LIMITS)  # type: ignore[arg-type]
    assert [name for name, status in standings(health).items() if status is not Status.UP] == [service]
    assert keys(health) == {service}
    (reason,) = health.reasons
    assert reason.startswith(f"{service}: ") and expected in reason
    assert health.status is (Status.DOWN if service in (RPC, STORE, WATCH) else Status.INITIALIZING)
    assert not health.ready
    assert status_line(health).endswith(reason)


@pytest.mark.parametrize(
    "change",
    [
        {"node": NodeSeen(answered_ago_s=15, reason="http://a: no connection", head_block=100)},
        {"api": ApiSeen(failures=1, reason="reset", used=True)},
        {"hook": HookSeen(failures=1, reason="ValueError")},
        {"hook": HookSeen(failures=9, failed_ago_s=301)},
        {"hook": HookSeen(silent_s=20)},
        {"hook": HookSeen(silent_s=44, longest_s=30)},
        {"stages": (StageSeen("admit", beat_ago_s=60, condition="no node", waiting_s=14),)},
        {"work": replace(WORK, overdue_s=61, moved_ago_s=5)},
        {"work": replace(WORK, overdue_s=5, moved_ago_s=600)},
        {"work": replace(WORK, cursor_block=81)},
    ],
)
def test_one_failure_a_short_wait_or_an_old_failure_is_no_condition(change: dict[str, object]) -> None:
    assert evaluate(replace(WELL, **change), LIMITS).ready  # type: ignore[arg-type]


def test_watch_is_not_down_when_a_service_explains_the_wait() -> None:
    waiting = (StageSeen("watch", condition="no endpoint can answer", waiting_s=50),)
    health = evaluate(replace(WELL, node=NodeSeen(answered_ago_s=50), stages=waiting), LIMITS)
    assert keys(health) == {RPC}


def test_watch_is_not_down_right_after_a_service_is_back() -> None:
    waiting = (StageSeen("watch", condition="no endpoint can answer", waiting_s=98),)
    down = evaluate(replace(WELL, node=NodeSeen(answered_ago_s=50), stages=waiting), LIMITS)
    back = evaluate(replace(WELL, at_ms=2_000, stages=waiting), LIMITS, down)
    assert back.ready
    soon = evaluate(replace(WELL, at_ms=21_000, stages=waiting), LIMITS, back)
    assert soon.ready
    assert keys(evaluate(replace(WELL, at_ms=22_000, stages=waiting), LIMITS, soon)) == {WATCH}


def test_a_hook_that_hangs_stays_down_until_an_answer_comes() -> None:
    silent = evaluate(replace(WELL, hook=HookSeen(silent_s=25)), LIMITS)
    ended = evaluate(replace(WELL, hook=HookSeen(failures=1, reason="took too long")), LIMITS, silent)
    assert ended.reasons == ("handler: the last run failed (took too long)",)
    assert not evaluate(replace(WELL, hook=HookSeen(failures=1, silent_s=1)), LIMITS, ended).ready
    assert evaluate(replace(WELL, hook=HookSeen()), LIMITS, ended).ready


def test_a_far_cursor_is_initializing_and_not_down() -> None:
    health = evaluate(replace(WELL, work=replace(WORK, cursor_block=10)), LIMITS)
    assert standings(health)[WATCH] is Status.INITIALIZING
    assert keys(health) == set()
    assert health.reasons == ("watch: 90 blocks behind, catching up",)


def test_deadline_condition_names_the_blocks_left() -> None:
    health = evaluate(replace(WELL, work=replace(WORK, open_tasks=4, nearest_deadline_block=107, endangered=2)), LIMITS)
    assert keys(health) == {DEADLINE}
    assert health.blocks_left == 7
    assert "2 tasks are within 10 blocks of the deadline" in health.reasons[0]
    assert health.status is Status.INITIALIZING
    assert status_line(health).startswith("block 100, 4 open, nearest deadline in 7 blocks; deadline: ")


def test_deadlines_that_are_times_are_in_danger_like_those_in_blocks() -> None:
    timed = replace(WORK, open_tasks=4, seconds_left=41.6, endangered_by_time=1)
    health = evaluate(replace(WELL, work=timed), LIMITS)
    assert (keys(health), health.ready, health.seconds_left) == ({DEADLINE}, False, 41.6)
    assert health.reasons[0] == "deadline: 1 task is within 120 s of the deadline and unanswered, 42 s left"
    assert status_line(health).startswith("block 100, 4 open, nearest deadline in 42 s; deadline: ")
    both = evaluate(replace(WELL, work=replace(timed, nearest_deadline_block=103, endangered=2)), LIMITS)
    assert "2 tasks are within 10 blocks" in both.reasons[0]
    assert "1 task is within 120 s" in both.reasons[0]
    assert evaluate(replace(WELL, work=timed, api=None), LIMITS).ready, "who only observes has no deadline to keep"


def test_contradictions_of_the_convention_are_a_condition_when_observing() -> None:
    seen = replace(WELL, contradictions=("count_view: correct it", "hash_view: correct it"))
    for readings in (seen, replace(seen, api=None, hook=None)):
        health = evaluate(readings, LIMITS)
        assert (keys(health), health.ready) == ({CONVENTION}, False)
        assert health.reasons[0] == "convention: count_view: correct it; hash_view: correct it"


def test_accepted_answers_that_never_show_are_a_condition_from_five_on() -> None:
    lost = replace(WORK, unshown=4, unshown_reason="task 3: the transaction failed")
    assert evaluate(replace(WELL, work=lost), LIMITS).ready
    health = evaluate(replace(WELL, work=replace(lost, unshown=5)), LIMITS)
    assert keys(health) == {UNSHOWN}
    assert "5 answers in a row" in health.reasons[0]
    assert "(task 3: the transaction failed); compare [signed] with the contract" in health.reasons[0]


def test_nodes_behind_or_standing_still_are_a_condition() -> None:
    behind = evaluate(replace(WELL, node=NodeSeen(answered_ago_s=1, head_block=99)), LIMITS)
    assert keys(behind) == {NODE_BEHIND}
    stalled = NodeSeen(answered_ago_s=1, head_block=100, head_moved_ago_s=121, usual_interval_s=12)
    assert keys(evaluate(replace(WELL, node=stalled), LIMITS)) == {NODE_BEHIND}
    assert evaluate(replace(WELL, node=replace(stalled, head_moved_ago_s=119)), LIMITS).ready
    assert evaluate(replace(WELL, node=replace(stalled, usual_interval_s=None)), LIMITS).ready


def test_health_is_not_ready_when_nodes_keep_disagreeing() -> None:
    node = NodeSeen(answered_ago_s=1, head_block=100, disagreement="a and b show different blocks 7", disagreeing_s=9)
    assert evaluate(replace(WELL, node=node), LIMITS).ready, "they follow a reorg"
    health = evaluate(replace(WELL, node=replace(node, disagreeing_s=10)), LIMITS)
    assert not health.ready and keys(health) == {NODES_DISAGREE}
    assert "a and b show different blocks 7" in health.reasons[0]
    away = replace(node, disagreeing_s=10, answered_ago_s=60)
    assert NODES_DISAGREE not in keys(evaluate(replace(WELL, node=away), LIMITS))


def test_finality_at_the_head_warns_when_it_lasts_and_leaves_it_ready() -> None:
    node = NodeSeen(answered_ago_s=1, head_block=100, final_at_head_s=599)
    assert keys(evaluate(replace(WELL, node=node), LIMITS)) == set()
    health = evaluate(replace(WELL, node=replace(node, final_at_head_s=600)), LIMITS)
    assert health.ready and keys(health) == {FINALITY_AT_HEAD}
    assert "for 10 minutes" in health.reasons[0]


def test_head_has_not_stood_still_while_no_node_answered() -> None:
    """While no node answered, nothing was learned of the chain; when one does again, the first look may be the old."""
    status = NodeSeen(answered_ago_s=0, head_block=100, head_moved_ago_s=130, usual_interval_s=1)
    down = evaluate(replace(WELL, node=replace(status, answered_ago_s=125)), LIMITS)
    back = evaluate(replace(WELL, at_ms=3_000, node=status), LIMITS, down)
    assert back.ready
    after = replace(status, head_moved_ago_s=190)
    assert evaluate(replace(WELL, at_ms=62_000, node=after), LIMITS, back).ready
    assert keys(evaluate(replace(WELL, at_ms=64_000, node=after), LIMITS, back)) == {NODE_BEHIND}


def test_missing_finality_is_a_condition_while_the_head_moves() -> None:
    """Test networks of Ethereum have gone without it for days: nothing is settled meanwhile, and nothing missed."""
    node = NodeSeen(answered_ago_s=1, head_block=100, final_left_behind_s=3_601)
    health = evaluate(replace(WELL, node=node), LIMITS)
    assert keys(health) == {FINALITY_BEHIND}
    assert health.reasons == ("finality-behind: no block has become final for 60 minutes, the last is 90",)
    assert health.status is Status.INITIALIZING, "answers go out meanwhile"
    assert evaluate(replace(WELL, node=replace(node, final_left_behind_s=3_599)), LIMITS).ready
    back = evaluate(replace(WELL, node=replace(node, answered_ago_s=100)), LIMITS)
    assert evaluate(replace(WELL, at_ms=1_000, node=node), LIMITS, back).ready, "nobody saw the chain in that hour"


def test_since_stays_while_a_condition_lasts_and_restarts_after() -> None:
    down = replace(WELL, api=ApiSeen(refuses=True, reason="HTTP 401"))
    first = evaluate(replace(down, at_ms=5_000), LIMITS, evaluate(WELL, LIMITS))
    second = evaluate(replace(down, at_ms=9_000), LIMITS, first)
    assert [condition.since_ms for condition in second.conditions] == [5_000]
    service = second.service(API)
    assert service is not None and service.since_ms == 5_000
    over = evaluate(replace(WELL, at_ms=10_000), LIMITS, second)
    third = evaluate(replace(down, at_ms=12_000), LIMITS, over)
    assert [condition.since_ms for condition in third.conditions] == [12_000]


AGES = st.floats(0, 1e6, allow_nan=False)
TEXT = st.text(max_size=2000)
SEEN = st.builds(
    Observations,
    at_ms=st.integers(0, 2**53),
    started=st.booleans(),
    node=st.builds(NodeSeen, st.none() | AGES, TEXT, st.none() | st.integers(0, 10**9), AGES, st.none() | AGES, AGES),
    api=st.none() | st.builds(ApiSeen, st.booleans(), st.integers(0, 9), TEXT, st.booleans()),
    hook=st.none()
    | st.builds(HookSeen, st.integers(0, 9), AGES, TEXT, st.integers(0, 9), st.integers(0, 2), AGES, AGES),
    store=st.builds(StoreSeen, st.none() | TEXT, AGES),
    stages=st.lists(st.builds(StageSeen, st.sampled_from(["watch", "submit"]), AGES, st.none() | TEXT, AGES)),
    work=st.none()
    | st.builds(
        WorkSeen,
        *[st.integers(0, 10**9)] * 4,
        st.none() | st.integers(0, 10**9),
        st.integers(0, 9),
        AGES,
        AGES,
    ),
)


@given(SEEN, st.none() | SEEN)
def test_evaluation_is_consistent_for_any_observations(seen: Observations, earlier: Observations | None) -> None:
    health = evaluate(seen, LIMITS, None if earlier is None else evaluate(earlier, LIMITS))
    assert health.ready == (not health.reasons)
    assert keys(health) <= set(CONDITION_KEYS)
    assert len(keys(health)) == len(health.conditions)
    down = {service for service, status in standings(health).items() if status is Status.DOWN}
    assert down == keys(health) - {DEADLINE, NODE_BEHIND, FINALITY_BEHIND}
    assert (health.status is Status.DOWN) == bool(down & {RPC, STORE, WATCH})
    assert all(len(reason) < 1000 for reason in health.reasons)


def replica(**changes: Any) -> ReplicaSeen:
    seen = ReplicaSeen(1, ("watch",), True, "here", 2, {"watch": 1, "submit": 1}, (), 0.0, 0, True)
    return replace(seen, **changes)


def test_a_role_without_a_replica_is_a_condition_after_a_while() -> None:
    lacking = replica(missing=("respond", "confirm"), missing_s=16.0)
    health = evaluate(replace(WELL, replica=lacking), LIMITS)
    assert keys(health) == {"replicas"}
    assert not health.ready
    condition = health.condition("replicas")
    assert condition is not None
    assert condition.message.endswith(": respond, confirm")
    assert keys(evaluate(replace(WELL, replica=replica(missing=("respond",), missing_s=14.0)), LIMITS)) == set()


def test_deadlines_are_reported_by_the_leader_alone_whoever_sends() -> None:
    late = replace(WELL, api=None, hook=None, answered_elsewhere=True, work=replace(WORK, endangered=1))
    assert keys(evaluate(replace(late, replica=replica()), LIMITS)) == {"deadline"}
    assert keys(evaluate(replace(late, replica=replica(leads=False)), LIMITS)) == set()
