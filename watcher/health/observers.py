"""Sees what the hook, the operator's API and the ledger do, without any of them knowing.

It stands around their callables and passes everything through unchanged. Invariant: nothing it does can change or
delay what it watches.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from watcher.clock import Clock
from watcher.errors import AttemptFailed, TryLater
from watcher.health.metrics import Metrics
from watcher.health.readings import ApiSeen, HookSeen
from watcher.hook.respond import RunHook
from watcher.ledger.writer import Batch
from watcher.operator.probe import Probe
from watcher.operator.request import Request
from watcher.operator.route import Sender
from watcher.task import Accepted, Later, Refused, Response, Sent, Skip, Task, Unknown

# How many block intervals make an average.
_INTERVALS = 10


class ChainProgress:
    """Told of the head and of the final block again and again. Times are ages in seconds by the monotonic clock."""

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
        """The timestamp a block may have that is made now: the head's, and the time since. None while it is unknown."""
        return self._head_time_s + self.head_moved_ago_s if self._head_time_s else None

    @property
    def usual_interval_s(self) -> float | None:
        """Between two blocks, None before enough were seen."""
        if self._head_moves < _INTERVALS:
            return None
        return (self._head_moved_s - self._head_first_s) / self._head_moves

    @property
    def final_left_behind_s(self) -> float:
        """For how long the head has been moving on without the final block. A chain that rests leaves none behind."""
        return 0.0 if self._left_behind_s is None else self._clock.monotonic_s() - self._left_behind_s


_TOO_MANY_REQUESTS = 429
_REFUSES_US = (401, 403, 404)
# The name of the API beside the first, whose own is empty.
DIRECT = "[operator.direct]"


class Observer:
    """What the outside has shown so far, of each API by its name.

    Its words are kept without the secrets `redact` knows: a hook, say, may put anything into what it raises.
    """

    def __init__(self, clock: Clock, metrics: Metrics, redact: Callable[[str], str] = str) -> None:
        self._clock = clock
        self._metrics = metrics
        self._redact = redact
        self._apis = {"": ApiSeen()}
        self._apis_at_s = {"": clock.monotonic_s()}
        self.hook = HookSeen()
        self.hook_failed_s = clock.monotonic_s()
        self._hook_changed = ""
        self.contradictions: Sequence[str] = ()
        self._runs = 0
        self._silent_since_s = clock.monotonic_s()
        self._longest_silence_s = 0.0
        self.store_trouble: str | None = None
        self.committed_s = clock.monotonic_s()

    @property
    def api(self) -> ApiSeen:
        """What the APIs show; where there are two, the trouble of either, by name."""
        worst = max(self._apis.values(), key=lambda one: (one.refuses, one.failures))
        told = [f"{name}: {one.words}" if name else one.words for name, one in self._apis.items() if one.words]
        return replace(worst, words="; ".join(told), used=any(one.used for one in self._apis.values()))

    def seen_of(self, name: str) -> tuple[ApiSeen, float]:
        """What this one shows, and when it last showed something, on the clock that never jumps."""
        return self._apis.get(name, ApiSeen()), self._apis_at_s.setdefault(name, self._clock.monotonic_s())

    def hooked(self, run_hook: RunHook) -> RunHook:
        """The same hook, watched."""

        async def run(task: Task) -> Response | Skip | Later:
            began_s = self._clock.monotonic_s()
            if not self._runs:
                self._silent_since_s = began_s
            self._runs += 1
            try:
                verdict = await run_hook(task)
            except AttemptFailed as failure:
                self._hook_failed("failed", began_s, str(failure), workers=1)
                raise
            except TryLater as condition:
                self._hook_failed("no_worker", began_s, str(condition), workers=0)
                raise
            finally:
                self._runs -= 1
                silent_s, self._silent_since_s = self._silent_s, self._clock.monotonic_s()
            self._longest_silence_s = max(self._longest_silence_s, silent_s)
            outcome = {Response: "answered", Skip: "skipped", Later: "later"}[type(verdict)]
            self._metrics.hook_ran(outcome, self._clock.monotonic_s() - began_s)
            self.hook = HookSeen()
            return verdict

        return run

    @property
    def _silent_s(self) -> float:
        return self._clock.monotonic_s() - self._silent_since_s

    def hook_now(self, waiting: int) -> HookSeen:
        """The hook at this moment, `waiting` tasks before it."""
        return replace(
            self.hook,
            waiting=waiting,
            failed_ago_s=self._clock.monotonic_s() - self.hook_failed_s,
            silent_s=self._silent_s if self._runs else 0.0,
            longest_s=self._longest_silence_s,
            changed=self._hook_changed,
        )

    def hook_missing(self, message: str) -> None:
        """The hook cannot be loaded at the start; it is tried again."""
        self.hook = HookSeen(failures=self.hook.failures + 1, words=self._redact(message), workers=0)

    def hook_loaded(self) -> None:
        """The hook is loaded; no task has been given to it yet."""
        self.hook = HookSeen()

    def hook_compared(self, changed: str) -> None:
        """Record the files whose content differs from the loaded code, as one text; empty: none."""
        self._hook_changed = changed

    def contradicted(self, messages: Sequence[str]) -> None:
        """Record the present contradictions between convention and contract, a line for each."""
        self.contradictions = messages

    def _hook_failed(self, outcome: str, began_s: float, words: str, *, workers: int) -> None:
        self.hook_failed_s = self._clock.monotonic_s()
        self._metrics.hook_ran(outcome, self.hook_failed_s - began_s)
        self.hook = HookSeen(failures=self.hook.failures + 1, words=self._redact(words), workers=workers)

    def sending(self, sender: Sender, name: str = "") -> Sender:
        """The same sender, watched."""
        return _Watched(sender, self, name)

    def sent(self, sent: Sent, name: str = "") -> None:
        """The API gave this answer, or none."""
        self._apis_at_s[name] = self._clock.monotonic_s()
        outcome = _outcome(sent)
        self._metrics.sent(outcome, sent.duration_ms / 1000)
        match sent.outcome:
            case Refused(words=words, endpoint=True):
                self._apis[name] = ApiSeen(refuses=True, words=self._redact(words), used=True)
            case Refused(words=words) if outcome == "not_sent" or sent.http_status == _TOO_MANY_REQUESTS:
                self._api_failed(words, name)
            case Unknown(why=words):
                self._api_failed(words, name)
            case _:  # also a refusal of this very task: the API is there and takes our requests
                self._apis[name] = ApiSeen(used=True)

    def probed(self, probe: Probe, name: str = "") -> None:
        """The API was asked for nothing but a sign of life."""
        self._apis_at_s[name] = self._clock.monotonic_s()
        if probe.ok:
            self._apis[name] = ApiSeen(used=True)
        elif probe.http_status in _REFUSES_US:
            self._apis[name] = ApiSeen(refuses=True, words=self._redact(probe.words), used=True)
        else:
            self._api_failed(probe.words, name)

    def gone(self, name: str) -> None:
        """There is no such API in the configuration any more, or not yet."""
        self._apis.pop(name, None)
        self._apis_at_s.pop(name, None)

    def _api_failed(self, words: str, name: str) -> None:
        failures = self._apis.get(name, ApiSeen()).failures + 1
        self._apis[name] = ApiSeen(failures=failures, words=self._redact(words), used=True)

    def committed(self, batch: Batch) -> None:
        """The ledger committed, or could not."""
        self._metrics.committed(batch)
        self.store_trouble = None if batch.condition is None else self._redact(batch.condition)
        if batch.condition is None:
            self.committed_s = self._clock.monotonic_s()


class _Watched:
    """A Sender that tells the witness."""

    def __init__(self, sender: Sender, observer: Observer, name: str) -> None:
        self._sender = sender
        self._observer = observer
        self._name = name

    async def send(self, request: Request) -> Sent:
        sent = await self._sender.send(request)
        self._observer.sent(sent, self._name)
        return sent


def _outcome(sent: Sent) -> str:
    """One of metrics.API_OUTCOMES."""
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
