"""Which API a task goes to: every way `choose` can decide, on circuits that a test opens."""

from dataclasses import replace

import pytest

from tests.kit.clocks import SetClock
from tests.unit.operator.test_request import make_task
from watcher.operator.circuit import Circuit
from watcher.operator.request import Request
from watcher.operator.route import PARKED_MARK, UNREACHED_LIMIT, Hold, Parked, Route, Router, api_replied, choose
from watcher.task import Accepted, OpenTask, Refused, Sent, Unknown

DENIED = Refused("HTTP 401", endpoint=True)
NOT_SENT = Refused("not sent: the connection was refused")


class Nobody:
    async def send(self, request: Request) -> Sent:
        raise AssertionError(request)


def build(open_task: OpenTask, request_id: int) -> Request:
    raise AssertionError((open_task, request_id))


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def router(clock: SetClock) -> Router:
    circuits = [Circuit(clock, lambda: 0.5, base_s=4, max_s=100, probe_s=30) for _ in range(2)]
    main, direct = (
        Route(api, Nobody(), build, circuit) for api, circuit in zip(("proxy", "operator"), circuits, strict=True)
    )
    return Router(main, direct, is_proxy=True)


OURS, FOREIGN, STRICTER = make_task(), make_task(quorum_numbers=b"\x01"), make_task(quorum_threshold=80)


def test_everything_goes_to_the_proxy_while_nothing_is_known(router: Router) -> None:
    assert {choose(task, router) for task in (OURS, FOREIGN, STRICTER)} == {router.main}


def test_task_goes_to_direct_or_is_parked_when_the_proxy_cannot_serve_it(router: Router) -> None:
    informed = replace(router, quorum_numbers=b"\x00", threshold=66)
    assert choose(OURS, informed) is router.main
    assert choose(FOREIGN, informed) is choose(STRICTER, informed) is router.direct
    alone = replace(informed, direct=None)
    parked = [choose(task, alone) for task in (FOREIGN, STRICTER)]
    for choice, reason in zip(parked, ("quorum numbers [1], not [0]", "threshold 80 %, not 66 %"), strict=True):
        assert isinstance(choice, Parked)
        assert choice.reason.startswith(PARKED_MARK)
        assert reason in choice.reason
        assert "[operator.direct]" in choice.reason
        assert len(choice.reason) < 512  # a column holds no more
    assert choose(replace(FOREIGN, quorum_numbers=b"\x00"), alone) is router.main
    # Only what was told is compared.
    assert choose(STRICTER, replace(alone, threshold=0)) is router.main


def test_what_was_learned_chooses_between_two_and_parks_nothing(router: Router) -> None:
    learned = {(b"\x00", 66)}
    assert choose(OURS, router, learned) is router.main
    assert choose(FOREIGN, router, learned) is router.direct
    assert choose(FOREIGN, replace(router, direct=None), learned) is router.main
    # What a person has said comes before what was guessed.
    assert choose(FOREIGN, replace(router, quorum_numbers=b"\x01"), learned) is router.main


def test_a_contract_the_proxy_does_not_know_goes_to_the_other(router: Router) -> None:
    unknown = replace(router, unusable="no such contract")
    assert choose(OURS, unknown) is router.direct
    assert choose(OURS, replace(unknown, direct=None)) == Parked(f"{PARKED_MARK}no such contract")


def test_the_operator_api_alone_serves_every_quorum(router: Router) -> None:
    assert router.direct is not None
    alone = Router(router.direct, quorum_numbers=b"\x00", threshold=66)
    assert choose(FOREIGN, alone) is router.direct


def test_without_failover_a_closed_proxy_is_waited_for(router: Router, clock: SetClock) -> None:
    router.main.circuit.record(DENIED)
    choice = choose(OURS, router)
    assert isinstance(choice, Hold)
    clock.now_s += choice.after_s
    assert choose(OURS, router) is router.main
    assert choose(OURS, router, probing={"proxy"}) == Hold(1.0)


def test_with_failover_the_other_takes_what_the_proxy_does_not(router: Router, clock: SetClock) -> None:
    both = replace(router, failover=True)
    both.main.circuit.record(DENIED)
    assert choose(OURS, both) is router.direct
    clock.now_s += both.main.circuit.wait_s()
    # One task finds out whether the proxy is back, the rest do not wait for it.
    assert choose(OURS, both) is router.main
    assert choose(OURS, both, probing={"proxy"}) is router.direct
    both.main.circuit.admit()
    both.main.circuit.record(Accepted())
    assert choose(OURS, both, probing={"proxy"}) is router.main


def test_with_both_closed_nothing_is_sent(router: Router) -> None:
    both = replace(router, failover=True)
    assert both.direct is not None
    both.main.circuit.record(DENIED)
    both.direct.circuit.record(DENIED)
    assert isinstance(choose(OURS, both), Hold)
    assert not both.some_closed
    assert both.wait_s() > 0
    # Nor is what only the other can serve sent to the proxy.
    assert isinstance(choose(FOREIGN, replace(both, quorum_numbers=b"\x00")), Hold)


def test_what_cannot_be_reached_closes_only_where_there_is_another_way(router: Router, clock: SetClock) -> None:
    circuit = router.main.circuit
    for _ in range(2 * UNREACHED_LIMIT):
        circuit.record(NOT_SENT, replied=False)
    assert circuit.closed
    circuit.record(Accepted())
    circuit.follow(UNREACHED_LIMIT)
    for outcome in (NOT_SENT, Unknown("no whole answer"), Accepted(), NOT_SENT, NOT_SENT):
        circuit.record(outcome, replied=isinstance(outcome, Accepted))
        assert circuit.closed
    circuit.record(Unknown("no whole answer"), replied=False)
    assert not circuit.closed
    clock.now_s += circuit.wait_s()
    assert circuit.admit()
    circuit.record(NOT_SENT, replied=False)
    assert circuit.wait_s() > 0
    clock.now_s += circuit.wait_s()
    assert circuit.admit()
    circuit.record(Refused("the task is wrong"))
    assert circuit.closed


@pytest.mark.parametrize(
    ("status", "is_reached"), [(None, False), (502, False), (504, False), (500, True), (200, True)]
)
def test_a_gateway_in_place_of_the_api_is_not_the_api(status: int | None, is_reached: bool) -> None:
    assert api_replied(Sent(Unknown(""), status, b"", 0)) is is_reached
