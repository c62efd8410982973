"""The states of a task, and the legal transitions between them. docs/guarantees.md says who enters and leaves each."""

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """Where a task stands. The comment says who acts next."""

    SEEN = "seen"  # admit: wait for confirmations, prove the log against the contract
    READY = "ready"  # respond: run the hook
    COMPUTED = "computed"  # submit: the answer is fixed, nothing was sent yet
    SENDING = "sending"  # submit: an attempt is on its way
    UNKNOWN = "unknown"  # confirm: sent, with no usable answer; only the chain can tell
    ACCEPTED = "accepted"  # confirm: the API says yes, which is a claim
    WAITING = "waiting"  # submit: certainly not accepted, next attempt when due
    BLOCKED = "blocked"  # submit: the endpoint refuses us, not the task
    RESPONDED = "responded"  # confirm: our bytes are on the canonical chain, not final yet
    RESPONDED_OTHER = "responded_other"  # confirm: other bytes are on the canonical chain, not final yet
    FINAL = "final"  # end: our answer is on the chain for good
    FINAL_OTHER = "final_other"  # end: somebody else's answer is
    EXPIRED = "expired"  # end: a final head is past the deadline and there is no response
    DELIVERED = "delivered"  # end: the API has it, and this contract shows nothing that could confirm it
    ORPHANED = "orphaned"  # end, unless the chain brings the task back: its block is gone
    FAILED = "failed"  # end: the hook never answered; a person may retry
    SKIPPED = "skipped"  # end: the hook, or a person, said not to answer
    QUARANTINED = "quarantined"  # end: the contract does not know this task; a person may retry


_S = State

ENDED = frozenset(
    {_S.FINAL, _S.FINAL_OTHER, _S.DELIVERED, _S.EXPIRED, _S.ORPHANED, _S.FAILED, _S.SKIPPED, _S.QUARANTINED}
)
RESPONDED = frozenset({_S.RESPONDED, _S.RESPONDED_OTHER})
# Ended without an answer, and not by a final reading of the chain alone: a late answer is still the truth.
GIVEN_UP = frozenset({_S.FAILED, _S.SKIPPED, _S.QUARANTINED, _S.EXPIRED})
# The contract did not hold the task. When it does later, the task is taken up again.
NOT_HELD = frozenset({_S.QUARANTINED, _S.ORPHANED})
# Nothing was decided on the chain yet: a response, the deadline or a reorg can still settle each of these.
UNSETTLED = frozenset(_S) - ENDED - RESPONDED

_SETTLED_BY_CHAIN = frozenset({_S.RESPONDED, _S.RESPONDED_OTHER, _S.EXPIRED, _S.ORPHANED})

# What a person may do (`tasks retry`, `tasks skip`) stands beside what the stages do, so that one table is the law.
LEGAL: Mapping[State, frozenset[State]] = {
    _S.SEEN: _SETTLED_BY_CHAIN | {_S.READY, _S.QUARANTINED, _S.SKIPPED},
    _S.READY: _SETTLED_BY_CHAIN | {_S.COMPUTED, _S.SKIPPED, _S.FAILED},
    _S.COMPUTED: _SETTLED_BY_CHAIN | {_S.SENDING, _S.WAITING, _S.SKIPPED},
    _S.SENDING: _SETTLED_BY_CHAIN | {_S.ACCEPTED, _S.UNKNOWN, _S.WAITING, _S.BLOCKED},
    _S.UNKNOWN: _SETTLED_BY_CHAIN | {_S.WAITING},
    _S.ACCEPTED: _SETTLED_BY_CHAIN | {_S.WAITING, _S.DELIVERED},
    _S.WAITING: _SETTLED_BY_CHAIN | {_S.SENDING, _S.SKIPPED},
    _S.BLOCKED: _SETTLED_BY_CHAIN | {_S.SENDING, _S.SKIPPED},
    _S.RESPONDED: frozenset({_S.FINAL, _S.UNKNOWN}),
    _S.RESPONDED_OTHER: frozenset({_S.FINAL_OTHER, _S.UNKNOWN, _S.SEEN}),
    # An answer that lands after we gave up is still the truth. What the contract did not hold, it may hold later: a
    # chain brings an orphan back, and a node that showed zeros shows the task.
    _S.FAILED: frozenset({_S.READY, _S.RESPONDED, _S.RESPONDED_OTHER}),
    _S.SKIPPED: frozenset({_S.READY, _S.RESPONDED, _S.RESPONDED_OTHER}),
    _S.QUARANTINED: frozenset({_S.SEEN, _S.READY, _S.RESPONDED, _S.RESPONDED_OTHER, _S.ORPHANED}),
    _S.EXPIRED: frozenset({_S.RESPONDED, _S.RESPONDED_OTHER, _S.UNKNOWN, _S.SEEN}),
    _S.ORPHANED: frozenset({_S.SEEN}),
    # One node alone may have called their block final.
    _S.FINAL: frozenset({_S.UNKNOWN}),
    _S.FINAL_OTHER: frozenset({_S.UNKNOWN, _S.SEEN}),
    _S.DELIVERED: frozenset(),
}
