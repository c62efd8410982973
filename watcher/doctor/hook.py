"""The hook: it loads, and answers a sample with something the contract can take. Nothing is sent."""

import os
import time
from pathlib import Path

from watcher.chain.contract import TaskManager
from watcher.daemon import parts, wiring
from watcher.doctor.finding import Notes
from watcher.doctor.sample import sample_task
from watcher.errors import AttemptFailed
from watcher.settings.model import Settings
from watcher.task import Later, Response, Skip, Task

# A hook may be given hours; a check is not.
_TIMEOUT_S = 30.0


async def check(
    settings: Settings, config: Path | None, contract: TaskManager | None, newest: Task | None, notes: Notes
) -> None:
    """Add three findings: loading, protection, and an answer to the contract's newest task, or to one made up."""
    timeout_s = min(settings.hook.timeout_s, _TIMEOUT_S)
    hidden = parts.hidden_paths(settings.ledger, config, os.environ)
    async with parts.hook_runner(settings.hook, hidden, workers=1, timeout_s=timeout_s) as pool:
        notes.ok("loading", f"loaded {pool.version}")
        _protection(pool.exposed, notes)
        sample = newest
        if sample is None and contract is not None:
            sample = sample_task(contract, settings.chain.chain_id)
        if sample is None or contract is None:
            return
        which = f"task {sample.task_index} of the contract" if newest is not None else "a made-up task"
        began_s = time.monotonic()
        try:
            verdict = await wiring.fitted(pool.run, contract)(sample)
        except AttemptFailed as failed:
            took_s = time.monotonic() - began_s
            _failed(settings, f"no answer to {which}: {failed}", newest is not None, took_s >= timeout_s, notes)
        else:
            notes.ok("sample", _told(which, verdict))


def _protection(exposed: str, notes: Notes) -> None:
    if exposed:
        notes.warn("protection", f"the hook can read credentials, configuration and ledger: {exposed}")
    else:
        notes.ok("protection", "the hook cannot read credentials, configuration, ledger or this process")


def _failed(settings: Settings, words: str, is_real: bool, is_slow: bool, notes: Notes) -> None:
    if is_slow and settings.hook.timeout_s > _TIMEOUT_S:
        notes.warn("sample", f"{words}; hook.timeout_s allows more than this check waits: use `watcher hook try`")
    elif is_real:
        notes.wrong("sample", f"hook.target: {words}; correct the hook, and see `watcher hook try`")
    else:
        notes.warn("sample", f"{words}; that may be the sample's fault: try your own with `watcher hook try --message`")


def _told(which: str, verdict: Response | Skip | Later) -> str:
    match verdict:
        case Response(message, _, duration_ms):
            return f"answers {which} with {len(message)} bytes, as the contract takes them, in {duration_ms} ms"
        case Skip(reason):
            return f"skips {which}: {reason}"
        case Later(_, _, reason):
            return f"asks for {which} to come back later: {reason}"
