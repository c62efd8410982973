"""Check of the contract: its code, every view of its convention, its window, its aggregator and its response function.

`watcher.doctor.convention` checks its events.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from watcher.chain.contract import IMPLEMENTATION_SLOT
from watcher.chain.convention.abi import topic
from watcher.chain.convention.convention import Convention, convention
from watcher.chain.convention.proxy_call import proxy_builds
from watcher.chain.convention.schema import NON_SIGNERS, PRESETS, SENDER_VIEW
from watcher.chain.convention.view import NoSuchView, View
from watcher.chain.rpc.nodes import NodePool
from watcher.doctor.convention import check_convention
from watcher.doctor.finding import Notes
from watcher.doctor.subject import Subject
from watcher.errors import RetryElsewhere
from watcher.settings import model
from watcher.settings.operator import Operator
from watcher.task import Header, Task

# Blocks from the last confirmation to the block with the answer: the hook, the aggregation, the transaction.
_BLOCKS_TO_ANSWER = 3
# The code of a minimal proxy (ERC-1167): this, 20 bytes of address, and a tail.
_MINIMAL = bytes.fromhex("363d3d373d3d3d363d73")
# The opcodes by which the code of another address runs in this one's place.
_FORWARDS = frozenset({0xF2, 0xF4})  # CALLCODE, DELEGATECALL
_PUSH1, _PUSH32 = 0x60, 0x7F
_MACH = f"confirmAlert((bytes32,bytes,bytes,uint32,uint256),{NON_SIGNERS})"


@dataclass(frozen=True, slots=True)
class _Views:
    """The next index and the response window in blocks, None where the convention has no such view."""

    count: int | None
    window_blocks: int | None


async def check_contract(subject: Subject, operator: Operator, notes: Notes, *, l1_blocks: bool = False) -> Task | None:
    """Add all findings on the contract. Return its newest task, None if none was found.

    Args:
        subject: the contract.
        operator: the section [operator], which names the response function.
        notes: takes the findings.
        l1_blocks: the contract counts the parent chain's blocks.

    Raises:
        RetryElsewhere: no node answered.
    """
    contract, head = subject.contract, subject.head
    address = "0x" + contract.address.hex()
    try:
        code: bytes | None = await subject.nodes.side.code(contract.address, head.number)
    except RetryElsewhere as error:
        code = None  # the views show as well whether there is a contract
        notes.warn("code", f"whether there is code at {address} cannot be read: {error}")
    if code == b"":
        message = f"task_manager.address: there is no contract at {address} on chain {subject.chain.chain_id}"
        notes.wrong("code", f"{message} at block {head.number}; correct the address, or the chain")
        return None
    await _other_addresses(subject, notes)
    views = await _views(subject, notes)
    if views is None:
        return None
    newest = await check_convention(subject, views.count, views.window_blocks, notes)
    check_window(subject.chain.confirmations, views.window_blocks, notes, l1_blocks=l1_blocks)
    await _aggregator(subject, notes)
    if operator.api != "none" and code is not None:
        await check_method(subject, operator, code, notes)
    return newest


async def _other_addresses(subject: Subject, notes: Notes) -> None:
    """Add a finding for each other address of the convention that holds no code."""
    convention, head = subject.contract.convention, subject.head
    for key, address in (("response", convention.responded_address), ("call", convention.call_address)):
        if address is None:
            continue
        with suppress(RetryElsewhere):
            if await subject.nodes.side.code(address, head.number) == b"":
                message = f"{key}.address: there is no contract at 0x{address.hex()} on chain {subject.chain.chain_id}"
                notes.wrong("code", f"{message} at block {head.number}; correct it in the convention file")


async def _views(subject: Subject, notes: Notes) -> _Views | None:
    """Read every view of the convention; None if the contract answers none of them."""
    contract, convention = subject.contract, subject.contract.convention
    named: dict[str, View[Any] | None] = {
        "count": convention.latest_task_num,
        "window": convention.response_window,
        "hash": convention.all_task_hashes,
        "response": convention.all_task_responses,
    }
    views = {name: view for name, view in named.items() if view is not None}
    replies = await contract.ask([(view, view.call()) for view in views.values()], subject.head)
    values: dict[str, Any] = {}
    missing: list[str] = []
    for (name, view), reply in zip(views.items(), replies, strict=True):
        try:
            values[name] = view.read(reply)
        except NoSuchView:
            missing.append(view.signature)
        except RetryElsewhere:  # it answers with something else
            missing.append(f"{view.signature} in one word of 32 bytes")
    present = [view.signature for name, view in views.items() if name in values]
    preset = _preset(subject.section)
    if missing and not present:
        notes.wrong(
            "views",
            f"task_manager.address: the contract answers none of {', '.join(missing)}: it is another contract, or its "
            f"convention is not {preset}; correct address or convention",
        )
        return None
    count, window_blocks = values.get("count"), values.get("window", convention.window_blocks)
    if missing:
        notes.wrong(
            "views",
            f"task_manager.convention: the contract answers {', '.join(present)}, but not {', '.join(missing)}: it is "
            f"not {preset}; see docs/conventions.md for the others, and for your own",
        )
    else:
        tasks = "tasks are not counted" if count is None else f"{count - contract.lowest_index} tasks so far"
        until = (
            "no deadline in blocks" if window_blocks is None else f"each to be answered within {window_blocks} blocks"
        )
        notes.ok("views", f"{tasks}, {until}; {len(present)} of {len(present)} views answer")
    return _Views(count, window_blocks)


def _preset(section: model.TaskManager) -> str:
    return f'"{section.convention}"' if section.convention != "custom" else f"that of {section.convention_file}"


def check_window(confirmations: int, window_blocks: int | None, notes: Notes, *, l1_blocks: bool) -> None:
    """Add a finding on what confirmations leave of the response window, as the contract counts blocks."""
    if window_blocks is None:
        return
    if l1_blocks:
        message = f"{confirmations} confirmations are blocks of this chain, the window of {window_blocks} the parent"
        if window_blocks <= _BLOCKS_TO_ANSWER:
            notes.warn("window", f"{message} chain's: little time for hook, aggregation and transaction")
        else:
            notes.ok("window", f"{message} chain's, of which each spans many")
    elif confirmations >= window_blocks:
        notes.wrong(
            "window",
            f"chain.confirmations: {confirmations} confirmations outlast the response window of {window_blocks} "
            "blocks, so that every task is past its window; lower them",
        )
    elif confirmations + _BLOCKS_TO_ANSWER >= window_blocks:
        notes.warn(
            "window",
            f"chain.confirmations: {confirmations} confirmations leave little of a window of {window_blocks} blocks "
            "for hook, aggregation and transaction; lower them",
        )
    else:
        notes.ok("window", f"{confirmations} confirmations leave {window_blocks - confirmations} blocks to answer in")


async def _aggregator(subject: Subject, notes: Notes) -> None:
    """Add a finding on the one address that may answer, for a person to compare."""
    view = subject.contract.convention.aggregator
    if view is None:
        return
    (reply,) = await subject.contract.ask([(view, view.call())], subject.head)
    try:
        address = view.read(reply)
    except RetryElsewhere:
        if view.signature != SENDER_VIEW:  # the default view is not in every contract
            message = f"task_manager.convention: the contract answers no {view.signature} with an address"
            notes.wrong("aggregator", f"{message}; correct call.sender_view, or leave it out")
        return
    if address is None:
        message = f"{view.signature} is the zero address: no answer is accepted; the contract's owner must set the one"
        notes.wrong("aggregator", f"{message} AltLayer names")
    else:
        notes.ok("aggregator", f"only 0x{address.hex()} may answer; compare it with the one AltLayer names")


async def check_method(subject: Subject, operator: Operator, code: bytes, notes: Notes) -> None:
    """Add a finding on the response function: its selector must stand in the contract's code."""
    contract, convention = subject.contract, subject.contract.convention
    if operator.api == "proxy" and not proxy_builds(convention) and not operator.direct.url:
        message = "operator.api: the proxy API builds the wizard's call and no other, so it can serve no task of this"
        notes.wrong("api", f'{message} contract; set operator.api = "operator", or configure [operator.direct]')
    method = operator.method or convention.method
    key = "operator.method" if operator.method else "task_manager.convention"
    try:
        if contract.answered_at != contract.address:
            code = await subject.nodes.side.code(contract.answered_at, subject.head.number)
        running = await _running_code(subject.nodes, contract.answered_at, subject.head, code)
    except RetryElsewhere as error:
        notes.warn("method", f"whether the contract has {method} cannot be determined: {error}")
        return
    if _has_selector(running, convention.selector(method)):
        notes.ok("method", f"the contract has {method}, with the arguments of the convention")
    elif _forwards(running) and not any(_has_selector(running, view.selector) for view in _named_views(convention)):
        message = (
            f"whether the contract has {method} cannot be determined: it forwards calls in a way this check does not"
        )
        notes.warn("method", f"{message} know")
    else:
        message = f"{key}: the contract has no {method} with the arguments of the convention"
        advice = _method_advice(running, convention)
        notes.wrong("method", f"{message} (selector 0x{convention.selector(method).hex()}); {advice}")


def _method_advice(code: bytes, configured: Convention) -> str:
    """Return the setting to make, by the response functions that the code has."""
    presets = [convention(name) for name in PRESETS]
    for name in dict.fromkeys(preset.method for preset in presets):
        if _has_selector(code, configured.selector(name)):
            return f'it has {name}: set operator.method = "{name}"'
    for preset in presets:
        if _has_selector(code, preset.selector()):
            return f'it has {preset.method} of another convention: set task_manager.convention = "{preset.name}"'
    if _has_selector(code, topic(_MACH)[:4]):
        return "it has Mach's confirmAlert: describe it in a convention of your own, docs/conventions.md"
    return "name the function that takes the answer in operator.method"


async def _running_code(nodes: NodePool, address: bytes, head: Header, code: bytes) -> bytes:
    """Return the implementation's code for a proxy of the usual kinds, else `code`."""
    target = (await nodes.side.slot(address, IMPLEMENTATION_SLOT, head.number))[-20:]
    if code.startswith(_MINIMAL):
        target = code[len(_MINIMAL) : len(_MINIMAL) + 20]
    return await nodes.side.code(target, head.number) if any(target) else code


def _has_selector(code: bytes, selector: bytes) -> bool:
    # Compilers push a selector without its leading zero bytes.
    return selector.lstrip(b"\0") in code


def _forwards(code: bytes) -> bool:
    """Return True if the code may run other code in its place. Data after the code counts as code too."""
    at = 0
    while at < len(code):
        if code[at] in _FORWARDS:
            return True
        at += code[at] - _PUSH1 + 2 if _PUSH1 <= code[at] <= _PUSH32 else 1
    return False


def _named_views(convention: Convention) -> list[View[Any]]:
    views = (
        convention.latest_task_num,
        convention.all_task_hashes,
        convention.all_task_responses,
        convention.response_window,
    )
    return [view for view in views if view is not None]
