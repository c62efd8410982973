"""The parts of a daemon that its health asks or calls, in one value."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from watcher.health.prober import Api
from watcher.health.readings import ReplicaSeen
from watcher.health.verdict import Health
from watcher.ledger.journal_range import Transitions


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Parts of a daemon; all callables run in the event loop and must not wait.

    Attributes:
        apis: the operator's APIs by the observer's names; none where the watcher only observes.
        on_back: called when an API that was away, or refused us, is back.
        changed_hook_files: names the files that differ from the hook's loaded code; None: there is no hook.
        listeners: called with each new evaluation.
        on_move: called with the transitions of tasks, in order.
        next_attempt_s: returns the seconds until a task is sent to an API that takes no requests, None while every API
            takes them.
        replica: returns this process among those that share its ledger; None: nobody shares it.
        name: the name of the AVS, "" for the only one.
    """

    apis: Mapping[str, Api] = field(default_factory=dict)
    on_back: Callable[[], None] = lambda: None
    changed_hook_files: Callable[[], Awaitable[str]] | None = None
    listeners: Sequence[Callable[[Health], object]] = ()
    on_move: Sequence[Callable[[Transitions], None]] = ()
    next_attempt_s: Callable[[], float | None] = lambda: None
    replica: Callable[[], ReplicaSeen | None] = lambda: None
    name: str = ""
