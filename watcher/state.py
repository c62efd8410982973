"""The states of a task, and the legal transitions between them.

`make docs` writes docs/states.md, with its drawing, from the paragraphs and the table below.
"""

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """The state of a task. Each paragraph says who enters it, who leaves it, and what a crash does."""

    SEEN = "seen"
    """The log of the task was read.
    Entered by watch, in the commit that moves the cursor. Left by admit to READY once the block has its confirmations
    and the contract holds the hash. A crash changes nothing: admit claims the task again."""
    READY = "ready"
    """The contract holds the hash of the task at its index.
    Entered by admit. Left by respond with what the hook returns: COMPUTED, SKIPPED, or FAILED after the last attempt.
    A crash loses the run alone: the lease ends, and the hook runs again."""
    COMPUTED = "computed"
    """The response is fixed, and nothing was sent.
    Entered by respond, which writes the response once and for good. Left by submit to SENDING. A crash changes
    nothing: every later attempt carries the same bytes."""
    SENDING = "sending"
    """A POST may be on the wire.
    Entered by submit, in the commit before the POST. Left by submit with the outcome, or to WAITING when the attempt is
    given up before its POST: the chain has moved on, or the daemon stops. After a crash the next start moves it to
    UNKNOWN, because nobody can tell whether the POST arrived."""
    UNKNOWN = "unknown"
    """A POST may have arrived, and no usable reply came: a time-out, a reset, a 5xx, or a crash.
    Entered by submit, at the start, and when a reorg takes a response back. Left by confirm as the chain decides, or
    to WAITING when the chain shows nothing after `operator.resolve_after_blocks`. A crash changes nothing."""
    ACCEPTED = "accepted"
    """The API accepted the response, which is a claim.
    Entered by submit. Left by confirm when the chain shows a response, to WAITING when it shows none, or to DELIVERED
    where the contract can show none. A crash changes nothing."""
    WAITING = "waiting"
    """The response certainly was not accepted, or the chain does not show it. The next attempt has a due time.
    Entered by submit and confirm. Left by submit to SENDING when due. A crash changes nothing."""
    BLOCKED = "blocked"
    """The API refuses the operator, not the task (401, 403, 404).
    Entered by submit. Left by submit to SENDING once the API takes requests again. A crash changes nothing."""
    RESPONDED = "responded"
    """The chain shows our response, and its block is not final.
    Entered by confirm. Left by confirm to FINAL, or to UNKNOWN when a reorg takes the block. A crash changes
    nothing."""
    RESPONDED_OTHER = "responded_other"
    """The chain shows a response with other bytes than ours, and its block is not final.
    Entered by confirm. Left by confirm to FINAL_OTHER; a reorg takes it back to UNKNOWN where we have a response, and
    to SEEN where we have none. A crash changes nothing."""
    FINAL = "final"
    """Our response is in a final block. An end.
    Entered by confirm. Left only when a block that too few nodes called final changes."""
    FINAL_OTHER = "final_other"
    """A response of somebody else is in a final block. An end.
    Entered by confirm. Left only when a block that too few nodes called final changes."""
    EXPIRED = "expired"
    """A final block is past the deadline, and the contract is proven to hold no response. An end.
    Entered by confirm. Left when a response is shown later, or when that finality is taken back."""
    DELIVERED = "delivered"
    """The API accepted the response, and this contract shows nothing that could confirm it. An end.
    Entered by confirm. Never left."""
    ORPHANED = "orphaned"
    """The block of the task is gone from the final chain, or the contract holds another task at its index. An end.
    Entered by watch at finality, and by confirm. Left to SEEN when the chain brings the task back."""
    FAILED = "failed"
    """The hook returned no response in `hook.max_attempts` runs. An end.
    Entered by respond. Left by `watcher tasks retry` to READY, or when the chain shows a response."""
    SKIPPED = "skipped"
    """The hook, or a person with `watcher tasks skip`, decided against a response. An end.
    Entered by respond and by a person. Left by `watcher tasks retry` to READY, or when the chain shows a response."""
    QUARANTINED = "quarantined"
    """The contract is proven not to hold the task: its log is forged, or a node hid the hash. An end.
    Entered by admit. Left to SEEN when the contract shows the hash later, and by `watcher tasks retry`."""


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
