"""The contract: there, with every view of its convention, its events, its window, its aggregator and its function."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from watcher.chain.contract import TaskManager
from watcher.chain.convention.schema import SENDER_VIEW
from watcher.chain.convention.view import NoSuchView, View
from watcher.chain.rpc.nodes import NodePool
from watcher.doctor import convention as doctor_convention
from watcher.doctor import method
from watcher.doctor.finding import Notes
from watcher.errors import RetryElsewhere
from watcher.settings.model import Settings
from watcher.task import Header, Task

# From the last confirmation to the block that holds the answer: the hook, the aggregation, the way into a block.
_BLOCKS_TO_ANSWER = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """What the views say: the next index and the window in blocks, None where there is none."""

    count: int | None
    window: int | None


async def check(
    settings: Settings,
    nodes: NodePool,
    contract: TaskManager,
    head: Header,
    notes: Notes,
    *,
    l1_blocks: bool = False,
) -> Task | None:
    """All lines about the contract, and its newest task, where one can be found.

    `l1_blocks`: it counts the parent chain's blocks.
    """
    address = "0x" + contract.address.hex()
    try:
        code: bytes | None = await nodes.side.code(contract.address, head.number)
    except RetryElsewhere as error:
        code = None  # the views show as well whether there is a contract
        notes.warn("code", f"whether there is code at {address} cannot be read: {error}")
    if code == b"":
        words = f"task_manager.address: there is no contract at {address} on chain {settings.chain.chain_id}"
        notes.wrong("code", f"{words} at block {head.number}; correct the address, or the chain")
        return None
    await _others(settings, nodes, contract, head, notes)
    seen = await _views(settings, contract, head, notes)
    if seen is None:
        return None
    sample = await doctor_convention.check(settings, nodes, contract, head, seen.count, seen.window, notes)
    look_at_window(settings.chain.confirmations, seen.window, notes, l1_blocks=l1_blocks)
    await _aggregator(contract, head, notes)
    if settings.operator.api != "none" and code is not None:
        await method.check(settings, nodes, contract, head, code, notes)
    return sample


async def _others(settings: Settings, nodes: NodePool, contract: TaskManager, head: Header, notes: Notes) -> None:
    """A line for each other address of the convention at which there is no contract."""
    convention = contract.convention
    for key, address in (("response", convention.responded_address), ("call", convention.call_address)):
        if address is None:
            continue
        with suppress(RetryElsewhere):
            if await nodes.side.code(address, head.number) == b"":
                words = f"{key}.address: there is no contract at 0x{address.hex()} on chain {settings.chain.chain_id}"
                notes.wrong("code", f"{words} at block {head.number}; correct it in the convention file")


async def _views(settings: Settings, contract: TaskManager, head: Header, notes: Notes) -> Seen | None:
    convention = contract.convention
    views: dict[str, View[Any] | None] = {
        "count": convention.latest_task_num,
        "window": convention.response_window,
        "hash": convention.all_task_hashes,
        "response": convention.all_task_responses,
    }
    asked = {name: view for name, view in views.items() if view is not None}
    answers = dict(zip(asked, await contract.ask([(view, view.call()) for view in asked.values()], head), strict=True))
    values: dict[str, Any] = {}
    missing: list[str] = []
    for name, view in asked.items():
        try:
            values[name] = view.read(answers[name])
        except NoSuchView:
            missing.append(view.signature)
        except RetryElsewhere:  # it answers, with something else
            missing.append(f"{view.signature} in one word of 32 bytes")
    there = [view.signature for name, view in asked.items() if name in values]
    if missing and not there:
        words = (
            f"task_manager.address: the contract answers none of {', '.join(missing)}: it is another contract, or its"
        )
        notes.wrong("views", f"{words} convention is not {_named(settings)}; correct address or convention")
        return None
    count, window = values.get("count"), values.get("window", convention.window_blocks)
    if missing:
        words = (
            f"task_manager.convention: the contract answers {', '.join(there)}, but not {', '.join(missing)}: it is not"
        )
        notes.wrong("views", f"{words} {_named(settings)}; see docs/conventions.md for the others, and for your own")
    else:
        tasks = "tasks are not counted" if count is None else f"{count - contract.lowest_index} tasks so far"
        until = "without a deadline in blocks" if window is None else f"each to be answered within {window} blocks"
        notes.ok("views", f"{tasks}, {until}; {len(there)} of {len(there)} views answer")
    return Seen(count, window)


def _named(settings: Settings) -> str:
    name = settings.task_manager.convention
    return f'"{name}"' if name != "custom" else f"that of {settings.task_manager.convention_file}"


def look_at_window(confirmations: int, window: int | None, notes: Notes, *, l1_blocks: bool) -> None:
    """One line about what confirmations leave of a window of so many blocks, as the contract counts them."""
    if window is None:
        return
    if l1_blocks:
        words = f"{confirmations} confirmations are blocks of this chain, the window of {window} the parent chain's"
        if window <= _BLOCKS_TO_ANSWER:
            notes.warn("window", f"{words}: little time for hook, aggregation and transaction")
        else:
            notes.ok("window", f"{words}, of which each spans many")
    elif confirmations >= window:
        words = (
            f"chain.confirmations: after {confirmations} confirmations every task is past its window of {window} blocks"
        )
        notes.wrong("window", f"{words}; lower them")
    elif confirmations + _BLOCKS_TO_ANSWER >= window:
        words = f"chain.confirmations: {confirmations} confirmations leave little of a window of {window} blocks"
        notes.warn("window", f"{words} for hook, aggregation and transaction; lower them")
    else:
        notes.ok("window", f"{confirmations} confirmations leave {window - confirmations} blocks to answer in")


async def _aggregator(contract: TaskManager, head: Header, notes: Notes) -> None:
    """Who alone may answer, where the contract names one: for a person to compare."""
    view = contract.convention.aggregator
    if view is None:
        return
    (answer,) = await contract.ask([(view, view.call())], head)
    try:
        found = view.read(answer)
    except RetryElsewhere:
        if view.signature != SENDER_VIEW:  # which somebody has asked for, and not every contract has the usual one
            words = f"task_manager.convention: the contract answers no {view.signature} with an address"
            notes.wrong("aggregator", f"{words}; correct call.sender_view, or leave it out")
        return
    if found is None:
        words = f"{view.signature} is the zero address: nobody can answer; the contract's owner must set the one"
        notes.wrong("aggregator", f"{words} AltLayer names")
    else:
        notes.ok("aggregator", f"only 0x{found.hex()} may answer; compare it with the one AltLayer names")
