"""The metrics of tasks: their number by state, their transitions, the delays of their answers, and the score."""

from collections import Counter as Count
from collections import deque
from collections.abc import Mapping

from watcher.health.registry import Registry
from watcher.ledger.journal_range import Transition, Transitions
from watcher.state import ENDED, State

_SECONDS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
# The score covers the last tasks that were due for a response.
_SCORE_OVER = 100
# Ends of tasks that were over before this ledger was begun: no miss, and no success of others.
_ENDS_OF_HISTORY = (State.EXPIRED, State.RESPONDED_OTHER, State.FINAL_OTHER)
_COUNTED = {State.FINAL: 1, State.FINAL_OTHER: 0, State.EXPIRED: 0, State.FAILED: 0}


class TaskMetrics:
    """The metrics of the tasks of one AVS."""

    def __init__(self, avs_name: str, registry: Registry) -> None:
        score = registry.gauge(
            "eigen_performance_score",
            f"Percentage of the last {_SCORE_OVER} tasks due for an answer that ended with ours. 100 at the start.",
            "avs_name",
        )
        self._tasks = registry.gauge(
            "avs_watcher_tasks", "Tasks in the ledger by state, without those that expired before it.", "state"
        )
        transitions = registry.counter(
            "avs_watcher_task_moves_total",
            "Transitions of tasks by the state entered, without the ends of tasks that were over before the ledger.",
            "state",
        )
        self._to_post = registry.histogram(
            "avs_watcher_post_delay_seconds", "From seeing a task to its first POST.", _SECONDS
        )
        self._to_answer = registry.histogram(
            "avs_watcher_response_delay_seconds", "From seeing a task to seeing our answer on the chain.", _SECONDS
        )
        self._recent: deque[int] = deque(maxlen=_SCORE_OVER)
        self._ended = dict.fromkeys(sorted(ENDED), 0)
        # Looking a series up by its labels costs more than counting: those of each task are kept.
        self._score = score.labels(avs_name)
        self._score.set(100)
        self._entered = {state: transitions.labels(state) for state in State}
        for state in State:
            self._tasks.labels(state)

    def moved(self, transitions: Transitions) -> None:
        """Record transitions of tasks."""
        by_states: Count[tuple[State | None, State]] = Count(transitions.counts)
        was_due = False
        for move in transitions.lines:
            to_state = move.to_state
            if move.is_history and to_state in _ENDS_OF_HISTORY:
                self._ended[State.FINAL_OTHER] += to_state is State.FINAL_OTHER
                continue
            by_states[move.from_state, to_state] += 1
            if to_state is State.SENDING and move.number == 1:
                self._to_post.observe(_delay_s(move))
            elif to_state is State.RESPONDED:
                self._to_answer.observe(_delay_s(move))
            if to_state in _COUNTED:
                self._recent.append(_COUNTED[to_state])
                was_due = True
        self._count(by_states)
        if was_due:
            self._score.set(100 * sum(self._recent) / len(self._recent))

    def _count(self, by_states: Mapping[tuple[State | None, State], int]) -> None:
        """Count transitions, by (from, to), and with them the tasks in each end state."""
        ended: Count[State | None] = Count(self._ended)
        for (from_state, to_state), count in by_states.items():
            self._entered[to_state].inc(count)
            ended[from_state] -= count
            ended[to_state] += count
        self._ended = {state: max(0, ended[state]) for state in self._ended}

    def counted(self, ended: Mapping[State, int]) -> None:
        """Set the number of tasks in each end state, over the whole ledger."""
        self._ended = {state: ended.get(state, 0) for state in self._ended}

    def show(self, open_by_state: Mapping[State, int]) -> None:
        """Show the number of tasks in each state; `open_by_state` has those in no end state."""
        for state in State:
            count = self._ended[state] if state in self._ended else open_by_state.get(state, 0)
            self._tasks.labels(state).set(count)


def _delay_s(move: Transition) -> float:
    """Return the seconds from seeing the task to its transition."""
    return max(0, move.at_ms - move.seen_at_ms) / 1000
