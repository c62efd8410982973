"""The law of the states: which moves there are, that no open state is a dead end, and that ends are ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.errors import IllegalMove
from watcher.ledger.tables import HAS_ENDED, OPEN
from watcher.ledger.transitions import refuse_illegal
from watcher.state import ENDED, LEGAL, RESPONDED, UNSETTLED, State

STATES = st.sampled_from(list(State))


@given(from_=STATES, to=STATES)
def test_a_move_is_allowed_exactly_when_the_law_has_it(from_: State, to: State) -> None:
    if to in LEGAL[from_]:
        refuse_illegal(from_, to)
    else:
        with pytest.raises(IllegalMove, match=f"from {from_} to {to}"):
            refuse_illegal(from_, to)


def test_every_state_has_its_law_and_belongs_to_one_group() -> None:
    assert set(LEGAL) == set(State)
    groups = [ENDED, RESPONDED, UNSETTLED]
    assert frozenset().union(*groups) == set(State)
    assert sum(map(len, groups)) == len(State)


@pytest.mark.parametrize("state", State)
def test_no_state_moves_to_itself(state: State) -> None:
    assert state not in LEGAL[state]


def reachable(start: State, without: frozenset[State] = frozenset()) -> set[State]:
    seen, ahead = {start}, [start]
    while ahead:
        fresh = LEGAL[ahead.pop()] - seen - without
        seen |= fresh
        ahead += fresh
    return seen


def test_every_state_can_be_reached_from_the_first_sight() -> None:
    assert reachable(State.SEEN) == set(State)


@pytest.mark.parametrize("state", sorted(set(State) - ENDED))
def test_every_open_state_leads_to_an_end(state: State) -> None:
    assert reachable(state) & ENDED
    assert {State.FINAL, State.FINAL_OTHER} & reachable(state), "the chain can always have the last word"


@pytest.mark.parametrize("state", [State.FINAL, State.FINAL_OTHER])
def test_final_is_left_only_when_its_finality_is_taken_back(state: State) -> None:
    """Then the chain is asked again, or the task begins anew: neither the hook nor the API comes next."""
    assert LEGAL[state] <= {State.UNKNOWN, State.SEEN}


@pytest.mark.parametrize("state", sorted(UNSETTLED))
def test_the_chain_settles_whatever_is_unsettled(state: State) -> None:
    settled = {State.RESPONDED, State.RESPONDED_OTHER, State.EXPIRED, State.ORPHANED}
    assert settled <= LEGAL[state]


def test_a_hook_is_run_only_for_what_the_contract_was_asked_about() -> None:
    """Whatever is sent was computed, and whatever is computed was ready: no way around either."""
    assert {state for state in State if State.COMPUTED in LEGAL[state]} == {State.READY}
    assert {state for state in State if State.ACCEPTED in LEGAL[state]} == {State.SENDING}
    # A reorg returns what was answered or expired to `unknown`, if it has a response; it was computed then.
    by_a_reorg = RESPONDED | {State.EXPIRED}
    assert State.SENDING not in reachable(State.SEEN, frozenset({State.COMPUTED}) | by_a_reorg)


def test_what_was_sent_never_goes_back_to_the_hook() -> None:
    """Short of its own answer vanishing from the ledger, which no move does, there is one answer to a task."""
    ends = ENDED | RESPONDED
    for state in (State.SENDING, State.UNKNOWN, State.ACCEPTED, State.WAITING, State.BLOCKED):
        assert State.READY not in reachable(state, frozenset(ends))


def test_unknown_is_resolved_by_the_chain_before_anything_is_sent_again() -> None:
    assert State.SENDING not in LEGAL[State.UNKNOWN]
    assert State.SENDING not in LEGAL[State.ACCEPTED]


def test_ends_are_left_only_by_a_person_or_the_chain() -> None:
    by_a_person = {State.READY, State.SEEN}
    by_the_chain = RESPONDED | {State.ORPHANED, State.SEEN, State.UNKNOWN}
    for state in ENDED:
        assert LEGAL[state] <= by_a_person | by_the_chain


def test_the_partial_index_covers_exactly_what_is_not_at_its_end() -> None:
    assert str(OPEN) == " AND ".join(f"state <> '{state}'" for state in sorted(ENDED))
    assert str(HAS_ENDED) == "(" + " OR ".join(f"state = '{state}'" for state in sorted(ENDED)) + ")"
