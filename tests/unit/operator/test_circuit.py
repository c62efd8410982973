"""Back-off bounds, and the circuit breaker on a clock that only the test moves."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.kit.clocks import SetClock
from watcher.backoff import delay_s
from watcher.operator.circuit import Circuit
from watcher.task import Accepted, Outcome, Refused, Unknown

SECONDS = st.floats(0.01, 1000)
SHARE = st.floats(0, 1, exclude_max=True)
DENIED = Refused("HTTP 401", endpoint=True)


def make_circuit(clock: SetClock) -> Circuit:
    return Circuit(clock, lambda: 0.5, base_s=4, max_s=100, probe_s=30)


@given(attempt=st.integers(-5, 10_000), base_s=SECONDS, max_s=SECONDS, share=SHARE)
def test_delay_lies_between_floor_and_doubled_ceiling(attempt: int, base_s: float, max_s: float, share: float) -> None:
    wait_s = delay_s(attempt, base_s, max_s, lambda: share)
    assert min(base_s, max_s) <= wait_s <= max_s
    assert wait_s <= base_s * 2.0 ** max(min(attempt, 60), 0) + 1e-9


@given(attempt=st.integers(0, 100), base_s=SECONDS, max_s=SECONDS, share=SHARE)
def test_later_attempts_never_wait_less_for_the_same_luck(
    attempt: int, base_s: float, max_s: float, share: float
) -> None:
    first, second = (delay_s(n, base_s, max_s, lambda: share) for n in (attempt, attempt + 1))
    assert first <= second


@given(asked_s=st.floats(-10, 1e12), share=SHARE, attempt=st.integers(1, 20))
def test_retry_after_is_a_lower_bound_up_to_its_cap(asked_s: float, share: float, attempt: int) -> None:
    wait_s = delay_s(attempt, 1, 60, lambda: share, retry_after_s=asked_s, retry_after_max_s=90)
    assert min(max(asked_s, 0), 90) <= wait_s <= 91


def test_tasks_sent_away_together_do_not_come_back_together() -> None:
    random = Random(1)
    waits = {delay_s(1, 1, 60, random.random, retry_after_s=30) for _ in range(50)}
    assert len(waits) == 50


def test_closed_circuit_lets_everything_through() -> None:
    circuit = make_circuit(SetClock())
    for outcome in (Accepted(), Refused("busy"), Unknown("502")):
        assert circuit.admit()
        circuit.record(outcome)
        assert circuit.closed
        assert circuit.wait_s() == 0


def test_endpoint_refusal_opens_it_and_one_probe_at_a_time_follows() -> None:
    clock = SetClock()
    circuit = make_circuit(clock)
    assert circuit.admit()
    circuit.record(DENIED)
    assert not circuit.closed
    assert circuit.wait_s() == 6  # half-way between 4 and 8
    assert not circuit.admit()
    clock.now_s += 6
    assert circuit.admit()
    assert not circuit.admit()
    circuit.record(DENIED)
    assert circuit.wait_s() == 10  # half-way between 4 and 16


def test_any_other_outcome_of_a_probe_closes_it() -> None:
    outcomes: list[Outcome] = [Accepted(), Refused("busy"), Unknown("502")]
    for outcome in outcomes:
        clock = SetClock()
        circuit = make_circuit(clock)
        circuit.record(DENIED)
        clock.now_s += circuit.wait_s()
        assert circuit.admit()
        circuit.record(outcome)
        assert circuit.closed
        assert circuit.admit()


def test_refusals_of_requests_sent_before_it_opened_do_not_prolong_it() -> None:
    circuit = make_circuit(SetClock())
    for _ in range(20):
        circuit.record(DENIED)
    assert circuit.wait_s() == 6


def test_lost_probe_frees_its_place_in_time() -> None:
    clock = SetClock()
    circuit = make_circuit(clock)
    circuit.record(DENIED)
    clock.now_s += 6
    assert circuit.admit()
    clock.now_s += 29
    assert not circuit.admit()
    clock.now_s += 1
    assert circuit.admit()


def test_waits_grow_to_the_maximum_and_honour_retry_after() -> None:
    clock = SetClock()
    circuit = make_circuit(clock)
    waits: list[float] = []
    for _ in range(12):
        circuit.record(DENIED)
        waits.append(circuit.wait_s())
        clock.now_s += waits[-1]
        assert circuit.admit()
    assert waits == sorted(waits)
    assert waits[-1] == 52  # half-way between 4 and the maximum
    circuit.record(Refused("HTTP 403", endpoint=True, retry_after_s=300))
    assert circuit.wait_s() >= 300
