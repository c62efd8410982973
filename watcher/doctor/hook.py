"""Check of the hook: it loads, and answers a sample with a value of the contract's type; and of its shadow.

Nothing is sent.
"""

import asyncio
import time
from dataclasses import replace
from typing import Any

from watcher.abi.layout import layout
from watcher.abi.types import AbiType, Address, Array, Bool, Bytes, FixedBytes, Number, Tuple
from watcher.chain.contract import TaskManager
from watcher.chain.convention import kinds
from watcher.chain.convention.abi import Codec
from watcher.chain.rpc.replies import Log
from watcher.daemon import parts, wiring
from watcher.doctor.finding import Notes
from watcher.errors import AttemptFailed, FixConfiguration, Quarantine, TryLater
from watcher.hook.target import setting_of_shadow
from watcher.hook.values import Values
from watcher.settings.hook import Hook
from watcher.settings.targets import is_service
from watcher.task import Later, Response, Skip, Task

# A hook may be given hours; a check is not.
_TIMEOUT_S = 30.0
_SHADOW_ADVICE = "correct [hook.shadow], or take it out; tasks are answered all the same"
# 32 bytes, the length of most messages, and not zero, as some hooks take zero for nothing.
_WORD = (2).to_bytes(32)


async def check_hook(
    hook: Hook,
    hidden: tuple[str, ...],
    contract: TaskManager | None,
    chain_id: int,
    newest: Task | None,
    notes: Notes,
) -> None:
    """Add findings on loading, protection, and an answer to the newest task or to a sample.

    Args:
        hook: the section [hook].
        hidden: the paths a worker cannot read.
        contract: gives the type of an answer; None where the convention cannot be read.
        chain_id: the chain of the sample.
        newest: the contract's newest task, None if it is not known.
        notes: takes the findings.

    Raises:
        FixConfiguration: the hook is wrong.
        TryLater: the hook cannot be loaded for a reason that may pass.
    """
    timeout_s = min(hook.timeout_s, _TIMEOUT_S)
    async with parts.hook_runner(hook, hidden, workers=1, timeout_s=timeout_s) as pool:
        notes.ok("loading", f"loaded {pool.version}{_types(hook)}")
        _protection(pool.exposed, is_service(hook.target), notes)
        task = newest
        if task is None and contract is not None:
            task = _with_values(sample_task(contract, chain_id), hook)
        if task is None or contract is None:
            return
        name = f"task {task.task_index} of the contract" if newest is not None else "a made-up task"
        began_s = time.monotonic()
        try:
            answer = await wiring.fitted(pool.run, contract)(task)
        except AttemptFailed as error:
            is_slow = time.monotonic() - began_s >= timeout_s and hook.timeout_s > _TIMEOUT_S
            _failed(f"no answer to {name}: {error}", newest is not None, is_slow, notes)
        else:
            notes.ok("sample", _described(name, answer, Values(parts.value_types(hook))))


async def check_shadow(hook: Hook, hidden: tuple[str, ...], notes: Notes) -> None:
    """Add a finding on whether the shadow loads, if there is one: a yellow line if not, as no task waits for it."""
    if not hook.shadow.target:
        return
    try:
        async with asyncio.timeout(_TIMEOUT_S), parts.shadow_runner(hook, hidden, workers=1) as runner:
            notes.ok("shadow", f"loaded {runner.version}")
    except TimeoutError:
        notes.warn("shadow", f"hook.shadow.target: not loaded within {_TIMEOUT_S:g} s; {_SHADOW_ADVICE}")
    except (FixConfiguration, TryLater) as error:
        notes.warn("shadow", f"{setting_of_shadow(str(error))}; {_SHADOW_ADVICE}")


def _types(hook: Hook) -> str:
    """Return the types of the hook's values as the end of a line; "" where it has none."""
    named = (("message", hook.message), ("response", hook.response))
    return "".join(f"; {name} {text}" for name, text in named if text)


def _with_values(sample: Task | None, hook: Hook) -> Task | None:
    """Return the sample with a message of the hook's types, if it has some."""
    message = layout("message", hook.message)
    return sample if sample is None or message is None else replace(sample, message=message.encode(plain(message.type)))


def plain(kind: AbiType) -> Any:
    """Return a plain value of a type of the hook: each number is 2, each text "sample"."""
    match kind:
        case Number():
            return 2
        case Bool():
            return False
        case Address():
            return bytes(19) + b"\2"
        case FixedBytes(size):
            return bytes(size)
        case Bytes(is_text):
            return "sample" if is_text else _WORD
        case Array(item, length):
            return [plain(item)] * (length or 1)
        case Tuple(members):
            return tuple(plain(member.type) for member in members)


def _protection(exposed: str, is_remote: bool, notes: Notes) -> None:
    if is_remote:
        notes.ok("protection", "a service, which the sandbox does not cover; run it as another user, or elsewhere")
    elif exposed:
        notes.warn("protection", f"the hook can read credentials, configuration and ledger: {exposed}")
    else:
        notes.ok("protection", "the hook cannot read credentials, configuration, ledger or this process")


def _failed(message: str, is_real: bool, is_slow: bool, notes: Notes) -> None:
    if is_slow:
        notes.warn("sample", f"{message}; hook.timeout_s allows more than this check waits: use `watcher hook try`")
    elif is_real:
        notes.wrong("sample", f"hook.target: {message}; correct the hook, and try it with `watcher hook try`")
    else:
        notes.warn("sample", f"{message}; the sample may not suit it: try your own with `watcher hook try --message`")


def _described(name: str, answer: Response | Skip | Later, values: Values) -> str:
    match answer:
        case Response(message, _, duration_ms):
            text = values.answer_text(message)
            decoded = f" ({text})" if text else ""
            return f"answers {name} with {len(message)} bytes{decoded}, as the contract takes them, in {duration_ms} ms"
        case Skip(reason):
            return f"skips {name}: {reason}"
        case Later(_, _, reason):
            return f"asks for {name} to come back later: {reason}"


def sample_task(contract: TaskManager, chain_id: int, window_blocks: int | None = None) -> Task | None:
    """Return a task for a contract that has none yet, read from a log of its event with plain values.

    Every number is 2 and every text "sample". None where the convention refuses such a log.
    """
    event = contract.convention.created
    topics, plain, types = [event.topic], [], []
    for value in event.signature.inputs:
        if value.indexed:
            topics.append(_WORD if value.is_hashed else Codec(value.type).encode([_value(value.type)]))
        else:
            plain.append(_value(value.type))
            types.append(value.type)
    log = Log(contract.address, tuple(topics), Codec(*types).encode(plain), 1, bytes(32), bytes(32), 0)
    try:
        return contract.convention.decode_task(log, chain_id, window_blocks)
    except Quarantine:
        return None


def _value(kind: str) -> Any:
    """Return a plain value of an ABI type."""
    if items := kinds.array(kind):
        return [_value(items[0])] * (items[1] or 0)
    if members := kinds.members(kind):
        return tuple(map(_value, members))
    name, size = kinds.sized(kind)
    plain = {"uint": 2, "int": 2, "string": "sample", "address": "0x" + "00" * 19 + "02", "bool": False}
    return plain.get(name, bytes(size) if size else _WORD)
