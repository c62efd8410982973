"""A JSON document from outside, parsed within bounds. Pure.

Importing web3 imports py_ecc, which raises the interpreter's recursion limit to 100,000. From then on the parser of
the standard library does not stop at deep nesting: a hundred kilobytes of brackets overflow the C stack and kill the
process. So the depth is measured before parsing, and does not depend on who has imported what.
"""

import json
from typing import Any, NoReturn

_DEPTH_MAX = 64
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def parse(body: bytes, *, unique_names: bool = False) -> Any:
    """The value in `body`, UTF-8 without a byte order mark. Raises ValueError for everything else, NaN included.

    `unique_names` refuses an object that names a member twice, at the price of a call per object.
    """
    if is_too_deep(body):
        raise ValueError("nested too deep")
    try:
        return json.loads(
            body.decode(), parse_constant=_no_constant, object_pairs_hook=_unique if unique_names else None
        )
    except RecursionError:
        raise ValueError("nested too deep") from None


def is_too_deep(body: bytes) -> bool:
    """Whether brackets, of JSON or of TOML, are left after peeling one level of nesting at a time.

    Brackets inside strings count as well; a few that stand alone there are forgiven.
    """
    brackets = body.translate(None, _NOT_BRACKETS)
    for _ in range(_DEPTH_MAX):
        if len(brackets) <= _DEPTH_MAX:
            return False
        peeled = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(peeled) == len(brackets):
            break
        brackets = peeled
    return len(brackets) > _DEPTH_MAX


def values_at_most(body: bytes) -> int:
    """How many values the document may hold: each but the first follows a comma or an opening bracket."""
    return 1 + body.count(b",") + body.count(b"[") + body.count(b"{")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found
