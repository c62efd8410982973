"""Whether the contract has the function the API is to call: its selector must stand in the code."""

from typing import Any

from watcher.chain.contract import IMPLEMENTATION_SLOT, TaskManager
from watcher.chain.convention.abi import topic
from watcher.chain.convention.convention import Convention, convention
from watcher.chain.convention.schema import NON_SIGNERS, PRESETS
from watcher.chain.convention.view import View
from watcher.chain.rpc.nodes import NodePool
from watcher.doctor.finding import Notes
from watcher.errors import RetryElsewhere
from watcher.settings.model import Settings
from watcher.task import Header

# The whole code of a minimal proxy (ERC-1167): this, 20 bytes of address, and a tail.
_MINIMAL = bytes.fromhex("363d3d373d3d3d363d73")
# By these the code of another address runs in this one's place; nothing else can answer for a contract.
_FORWARDS = frozenset({0xF2, 0xF4})  # CALLCODE, DELEGATECALL
_PUSH1, _PUSH32 = 0x60, 0x7F
_MACH = f"confirmAlert((bytes32,bytes,bytes,uint32,uint256),{NON_SIGNERS})"


async def check(
    settings: Settings, nodes: NodePool, contract: TaskManager, head: Header, code: bytes, notes: Notes
) -> None:
    """One line: the method is there, is not there, or cannot be told."""
    shape, operator = contract.convention, settings.operator
    if operator.api == "proxy" and not shape.has_proxy and not operator.direct.url:
        words = "operator.api: the proxy API builds the wizard's call and no other, so it can serve no task of this"
        notes.wrong("api", f'{words} contract; set operator.api = "operator", or configure [operator.direct]')
    wanted = operator.method or shape.method
    key = "operator.method" if operator.method else "task_manager.convention"
    try:
        if contract.answered_at != contract.address:
            code = await nodes.side.code(contract.answered_at, head.number)
        runs = await _behind(nodes, contract.answered_at, head, code)
    except RetryElsewhere as error:
        notes.warn("method", f"whether the contract has {wanted} cannot be told: {error}")
        return
    if _holds(runs, shape.selector(wanted)):
        notes.ok("method", f"the contract has {wanted}, with the arguments of the convention")
    elif _forwards(runs) and not any(_holds(runs, view.selector) for view in _views(shape)):
        words = f"whether the contract has {wanted} cannot be told: it forwards calls in a way this check does not know"
        notes.warn("method", words)
    else:
        words = f"{key}: the contract has no {wanted} with the arguments of the convention"
        notes.wrong("method", f"{words} (selector 0x{shape.selector(wanted).hex()}); {_advice(runs, shape)}")


def _advice(code: bytes, shape: Convention) -> str:
    """What to do, by the functions for answers that are there."""
    presets = [convention(name) for name in PRESETS]
    for name in dict.fromkeys(one.method for one in presets):
        if _holds(code, shape.selector(name)):
            return f'it has {name}: set operator.method = "{name}"'
    for one in presets:
        if _holds(code, one.selector()):
            return f'it has {one.method} of another convention: set task_manager.convention = "{one.name}"'
    if _holds(code, topic(_MACH)[:4]):
        return "it has Mach's confirmAlert: describe it in a convention of your own, docs/conventions.md"
    return "name the function that takes the answer in operator.method"


async def _behind(nodes: NodePool, address: bytes, head: Header, code: bytes) -> bytes:
    """The code that runs: behind a proxy of the usual kinds, the implementation's."""
    target = (await nodes.side.slot(address, IMPLEMENTATION_SLOT, head.number))[-20:]
    if code.startswith(_MINIMAL):
        target = code[len(_MINIMAL) : len(_MINIMAL) + 20]
    return await nodes.side.code(target, head.number) if any(target) else code


def _holds(code: bytes, selector: bytes) -> bool:
    # Compilers push a selector without its leading zero bytes.
    return selector.lstrip(b"\0") in code


def _forwards(code: bytes) -> bool:
    """Whether the code may have other code answer in its place. What follows the code is taken for code too: a yes."""
    at = 0
    while at < len(code):
        if code[at] in _FORWARDS:
            return True
        at += code[at] - _PUSH1 + 2 if _PUSH1 <= code[at] <= _PUSH32 else 1
    return False


def _views(shape: Convention) -> list[View[Any]]:
    views = (shape.latest_task_num, shape.all_task_hashes, shape.all_task_responses, shape.response_window)
    return [view for view in views if view is not None]
