"""Observers of the hook, the operator's API, the ledger and the chain's progress.

They wrap callables and pass everything through unchanged. Invariant: an observer neither changes nor delays what it
observes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from loguru import logger

from watcher.clock import Clock
from watcher.errors import AttemptFailed, TryLater
from watcher.health.metrics import Metrics
from watcher.health.readings import ApiSeen, HookSeen
from watcher.health.shadow_observer import ShadowObserver
from watcher.hook.respond import RunHook
from watcher.ledger.writer import Batch
from watcher.operator.probe import Probe
from watcher.operator.request import Request
from watcher.operator.route import Sender
from watcher.task import Accepted, Later, Refused, Response, Sent, Skip, Task, Unknown

# How many block intervals make an average.
_INTERVALS = 10


class ChainProgress:
    """The pace of head and final block. Times are ages in seconds by the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.head_block: int | None = None
        self._head_time_s = 0
        self._head_first_s = self._head_moved_s = clock.monotonic_s()
        self._head_moves = 0
        self._final_block: int | None = None
        self._left_behind_s: float | None = None  # when the head first moved on after the final block last did

    def follow(self, head_block: int | None, final_block: int | None, head_time_s: int = 0) -> None:
        """Record head and final block, None where unknown, and the head's time (seconds since 1970), 0 likewise."""
        now_s = self._clock.monotonic_s()
        head_moved = head_block != self.head_block
        if head_moved:
            if self.head_block is None:
                self._head_first_s = now_s
            else:
                self._head_moves += 1
            self.head_block, self._head_moved_s = head_block, now_s
            self._head_time_s = head_time_s
        if final_block != self._final_block:
            self._final_block, self._left_behind_s = final_block, None
        elif head_moved and final_block is not None and self._left_behind_s is None:
            self._left_behind_s = now_s

    @property
    def head_moved_ago_s(self) -> float:
        return self._clock.monotonic_s() - self._head_moved_s

    @property
    def chain_time_s(self) -> float | None:
        """The timestamp of a block made now: the head's plus the time since, in seconds since 1970; None if unknown."""
        return self._head_time_s + self.head_moved_ago_s if self._head_time_s else None

    @property
    def usual_interval_s(self) -> float | None:
        """Seconds between two blocks on average, None before enough were seen."""
        if self._head_moves < _INTERVALS:
            return None
        return (self._head_moved_s - self._head_first_s) / self._head_moves

    @property
    def final_left_behind_s(self) -> float:
        """For how long the head has moved on without the final block; 0 while the chain stands still."""
        return 0.0 if self._left_behind_s is None else self._clock.monotonic_s() - self._left_behind_s


_TOO_MANY_REQUESTS = 429
_REFUSES_US = (401, 403, 404)
# The name of the second API; that of the first is empty.
DIRECT = "[operator.direct]"
_REPLIES = ApiSeen(used=True)
_WORKS = HookSeen()
_VERDICTS: Mapping[type, str] = {Response: "answered", Skip: "skipped", Later: "later"}


class Observer:
    """The observations so far, for each API by its name.

    `redact` removes secrets from every reason that is kept: a hook may put anything into an exception.
    """

    def __init__(self, clock: Clock, metrics: Metrics, redact: Callable[[str], str] = str) -> None:
        self._clock = clock
        self._metrics = metrics
        self._redact = redact
        self._apis = {"": ApiSeen()}
        self._apis_at_s = {"": clock.monotonic_s()}
        self.hook = _WORKS
        self.shadow = ShadowObserver(metrics.shadow, redact)
        self.hook_failed_s = clock.monotonic_s()
        self._hook_changed = ""
        self.contradictions: Sequence[str] = ()
        self._runs = 0
        self._silent_since_s = clock.monotonic_s()
        self._longest_silence_s = 0.0
        self.store_condition: str | None = None
        self.damage: str | None = None
        self.committed_s = clock.monotonic_s()

    @property
    def api(self) -> ApiSeen:
        """The worse of the APIs, with the reasons of both."""
        worst = max(self._apis.values(), key=lambda api: (api.refuses, api.failures))
        reasons = [f"{name}: {api.reason}" if name else api.reason for name, api in self._apis.items() if api.reason]
        return replace(worst, reason="; ".join(reasons), used=any(api.used for api in self._apis.values()))

    def seen_of(self, name: str) -> tuple[ApiSeen, float]:
        """Return the state of the API called `name`, and its monotonic time in seconds."""
        return self._apis.get(name, ApiSeen()), self._apis_at_s.setdefault(name, self._clock.monotonic_s())

    def observe_hook(self, run_hook: RunHook) -> RunHook:
        """Return `run_hook` with an observer around it."""

        async def run(task: Task) -> Response | Skip | Later:
            began_s = self._clock.monotonic_s()
            if not self._runs:
                self._silent_since_s = began_s
            self._runs += 1
            try:
                result = await run_hook(task)
            except AttemptFailed as failure:
                self._hook_failed("failed", began_s, str(failure), workers=1)
                raise
            except TryLater as condition:
                self._hook_failed("no_worker", began_s, str(condition), workers=0)
                raise
            finally:
                self._runs -= 1
                ended_s = self._clock.monotonic_s()
                silent_s, self._silent_since_s = ended_s - self._silent_since_s, ended_s
            self._longest_silence_s = max(self._longest_silence_s, silent_s)
            self._metrics.hook_ran(_VERDICTS[type(result)], ended_s - began_s)
            self.hook = _WORKS
            if isinstance(result, Response):
                self._metrics.hook_version.set(result.hook_version)
            return result

        return run

    @property
    def _silent_s(self) -> float:
        return self._clock.monotonic_s() - self._silent_since_s

    def hook_now(self, waiting: int) -> HookSeen:
        """Return the state of the hook now, with `waiting` tasks in front of it."""
        return replace(
            self.hook,
            waiting=waiting,
            failed_ago_s=self._clock.monotonic_s() - self.hook_failed_s,
            silent_s=self._silent_s if self._runs else 0.0,
            longest_s=self._longest_silence_s,
            changed=self._hook_changed,
        )

    def hook_missing(self, message: str) -> None:
        """Record that the hook cannot be loaded at the start; the daemon tries again."""
        self.hook = HookSeen(failures=self.hook.failures + 1, reason=self._redact(message), workers=0)

    def hook_loaded(self, version: str) -> None:
        """Record that the hook is loaded, with its version."""
        self.hook = _WORKS
        self.hook_named(version)

    def hook_named(self, version: str) -> None:
        """Record the version of the hook that answers from now on."""
        self._metrics.hook_version.set(version)

    def hook_compared(self, changed: str) -> None:
        """Record the files whose content differs from the loaded code, as one text; empty: none."""
        self._hook_changed = changed

    def contradicted(self, messages: Sequence[str]) -> None:
        """Record the present contradictions between convention and contract, a line for each."""
        self.contradictions = messages

    def _hook_failed(self, outcome: str, began_s: float, reason: str, *, workers: int) -> None:
        self.hook_failed_s = self._clock.monotonic_s()
        self._metrics.hook_ran(outcome, self.hook_failed_s - began_s)
        self.hook = HookSeen(failures=self.hook.failures + 1, reason=self._redact(reason), workers=workers)

    def observe_sender(self, sender: Sender, name: str = "") -> Sender:
        """Return `sender`, which posts to the API called `name`, with an observer around it."""
        return _ObservedSender(sender, self, name)

    def sent(self, sent: Sent, name: str = "") -> None:
        """Record the reply of the API called `name`, or that there was none."""
        self._apis_at_s[name] = self._clock.monotonic_s()
        outcome = _outcome(sent)
        self._metrics.sent(outcome, sent.duration_ms / 1000)
        match sent.outcome:
            case Refused(reason=reason, endpoint=True):
                self._apis[name] = ApiSeen(refuses=True, reason=self._redact(reason), used=True)
            case Refused(reason=reason) if outcome == "not_sent" or sent.http_status == _TOO_MANY_REQUESTS:
                self._api_failed(reason, name)
            case Unknown(reason=reason):
                self._api_failed(reason, name)
            case _:  # also a refusal of this very task: the API is there and takes our requests
                self._apis[name] = _REPLIES

    def probed(self, probe: Probe, name: str = "") -> None:
        """Record the result of a probe of the API called `name`."""
        self._apis_at_s[name] = self._clock.monotonic_s()
        if probe.ok:
            self._apis[name] = _REPLIES
        elif probe.http_status in _REFUSES_US:
            self._apis[name] = ApiSeen(refuses=True, reason=self._redact(probe.message), used=True)
        else:
            self._api_failed(probe.message, name)

    def remove(self, name: str) -> None:
        """Forget the API called `name`, which is not in the configuration."""
        self._apis.pop(name, None)
        self._apis_at_s.pop(name, None)

    def _api_failed(self, reason: str, name: str) -> None:
        failures = self._apis.get(name, ApiSeen()).failures + 1
        self._apis[name] = ApiSeen(failures=failures, reason=self._redact(reason), used=True)

    def committed(self, batch: Batch) -> None:
        """Record a commit of the ledger, or that it failed."""
        self._metrics.committed(batch)
        self.store_condition = None if batch.condition is None else self._redact(batch.condition)
        if batch.condition is None:
            self.committed_s = self._clock.monotonic_s()

    def damaged(self, damage: str) -> None:
        """Record and log damage in the ledger's file, which the check in the background has found."""
        self.damage = f"the ledger's file is damaged ({damage}); stop the watcher and restore a copy"
        logger.error("ledger.damaged: the file of the ledger is damaged; restore a copy", reason=damage)


class _ObservedSender:
    """A Sender with an observer around it."""

    def __init__(self, sender: Sender, observer: Observer, name: str) -> None:
        self._sender = sender
        self._observer = observer
        self._name = name

    async def send(self, request: Request) -> Sent:
        sent = await self._sender.send(request)
        self._observer.sent(sent, self._name)
        return sent


def _outcome(sent: Sent) -> str:
    """Return one of `metrics.API_OUTCOMES`."""
    match sent.outcome:
        case Accepted():
            return "accepted"
        case Refused(endpoint=True):
            return "refuses_us"
        case Refused() if sent.http_status is None:
            return "not_sent"
        case Refused():
            return "refused"
        case _:
            return "unknown"
