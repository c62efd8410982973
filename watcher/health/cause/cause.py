"""The cause of any task's state, from the ledger and from the conditions of a running daemon. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from watcher.health.cause.ended import ended
from watcher.health.cause.evidence import Evidence
from watcher.health.cause.sent import responded, sending, undecided
from watcher.health.cause.unsent import ready, seen, to_send
from watcher.report.story import Cause
from watcher.state import ENDED, State

_OPEN: Mapping[State, Callable[[Evidence], Cause]] = {
    State.SEEN: seen,
    State.READY: ready,
    State.COMPUTED: to_send,
    State.WAITING: to_send,
    State.BLOCKED: to_send,
    State.SENDING: sending,
    State.UNKNOWN: undecided,
    State.ACCEPTED: undecided,
    State.RESPONDED: responded,
    State.RESPONDED_OTHER: responded,
}


def cause_of(evidence: Evidence) -> Cause:
    """Return why a task is in its state now, and what to do."""
    state = State(evidence.row.state)
    if state in ENDED:
        return ended(evidence)
    cause = _OPEN[state](evidence)
    if evidence.is_running is not False:
        return cause
    return replace(
        cause,
        reason=f"waits for a daemon: none runs on this ledger. Apart from that it {cause.reason}",
        advice=f"Start the daemon (`watcher run`, or systemctl start). {cause.advice}".strip(),
    )
