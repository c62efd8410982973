"""`docs/states.md`, made from the states and the table of legal transitions."""

import ast
import inspect
import textwrap
from collections.abc import Mapping

from watcher.state import ENDED, LEGAL, State

_INTRODUCTION = """\
# The states of a task

<!-- Written by `make docs`; change watcher/state.py instead. -->

Every change of a state is one row of the ledger's journal, written in the same commit. `ledger/transitions.py` refuses
every transition that is not in the table below. [guarantees.md](guarantees.md) says what follows from it.

## The usual ways

The drawing leaves out three kinds of arrows: the chain can settle every state before an end (a response, a deadline, a
reorg); a person can retry and skip; finality on the word of too few nodes can be taken back.

"""
# What the drawing leaves out, so that a person can follow it. The table has every transition.
_SETTLED = frozenset({State.RESPONDED, State.RESPONDED_OTHER, State.EXPIRED, State.ORPHANED})
_SENT = frozenset({State.SENDING, State.UNKNOWN, State.ACCEPTED})
_BY_PERSON = frozenset({(source, State.SKIPPED) for source in State if source is not State.READY})


def states_page() -> str:
    """Return `docs/states.md`."""
    paragraphs = paragraphs_of_states()
    parts = [_INTRODUCTION, _drawing(), "\n## Each state\n"]
    for state in State:
        end = " (end)" if state in ENDED else ""
        following = ", ".join(f"`{after}`" for after in State if after in LEGAL[state]) or "nothing"
        parts.append(f"\n### {state}{end}\n\n{paragraphs[state]}\n\nNext: {following}.\n")
    return "".join(parts)


def paragraphs_of_states() -> Mapping[State, str]:
    """Return the text that follows each state in the source of `State`."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(State))).body
    assert isinstance(definition, ast.ClassDef)
    paragraphs = {}
    for member, text in zip(definition.body, definition.body[1:], strict=False):
        match member, text:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(paragraph))):
                paragraphs[State[name]] = inspect.cleandoc(paragraph)
    return paragraphs


def _drawing() -> str:
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> seen"]
    for source in State:
        lines += [f"    {source} --> {target}" for target in State if _is_drawn(source, target)]
    return "\n".join([*lines, *(f"    {state} --> [*]" for state in State if state in ENDED), "```", ""])


def _is_drawn(source: State, target: State) -> bool:
    if target not in LEGAL[source] or source in ENDED or (source, target) in _BY_PERSON:
        return False
    return target not in _SETTLED or (source in _SENT and target in (State.RESPONDED, State.RESPONDED_OTHER))
