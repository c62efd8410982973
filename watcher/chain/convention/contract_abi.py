"""What a convention file writes, compared with the contract's ABI: events, views and the function for answers. Pure."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from eth_abi.grammar import TupleType, parse

from watcher.chain.convention.event import Event
from watcher.chain.convention.schema import ObservedShape
from watcher.chain.convention.signature import Parameter, Signature, abi_parameters, abi_signature
from watcher.chain.convention.view_shape import ViewShape
from watcher.errors import FixConfiguration
from watcher.validation import brief, shortened

_READS = frozenset({"view", "pure", None})
_ANY, _HASH, _NUMBER, _ADDRESS = "", "bytes32", "uint", "address"


class ContractAbi:
    """The events and functions of a compiler's ABI by name. An entry nobody can read is left out."""

    def __init__(self, abi: Sequence[Any]) -> None:
        self._found: dict[tuple[str, str], list[tuple[Signature, dict[str, Any]]]] = {}
        for entry in abi:
            if isinstance(entry, dict) and entry.get("type") in ("event", "function") and not entry.get("anonymous"):
                with suppress(FixConfiguration):
                    signature = abi_signature(entry)
                    self._found.setdefault((entry["type"], signature.name), []).append((signature, entry))

    def differences(self, shape: ObservedShape, created: Event, responded: Event | None, function: str) -> list[str]:
        """What is written and not so in the ABI, with its key. `function`: the canonical one for answers, or ""."""
        lines = [self._event("task.event", created), *self._views(shape)]
        if responded is not None:
            lines.append(self._event("response.event", responded))
        if function:
            name = function.partition("(")[0]
            known = self._found.get(("function", name), [])
            if function not in [str(one) for one, _ in known]:
                lines.append(f"call: the ABI has no {brief(function, 200)}; {self._instead('function', name)}")
        return [line for line in lines if line]

    def _event(self, key: str, event: Event) -> str:
        written, name = _shown(event.signature), event.signature.name
        if written in [_shown(one) for one, _ in self._found.get(("event", name), [])]:
            return ""
        return f"{key}: the ABI has no {brief(written, 200)}; {self._instead('event', name)}"

    def _instead(self, kind: str, name: str) -> str:
        """What the ABI has under the name; else the names it has."""
        if alike := self._found.get((kind, name)):
            return f"it has {' and '.join(brief(_shown(one), 200) for one, _ in alike[:3])}"
        return f"it has {shortened(sorted({one for what, one in self._found if what == kind})) or 'none'}"

    def _views(self, shape: ObservedShape) -> Iterator[str]:
        hashed = _HASH if shape.task.hash else _ANY
        yield self._view("task.hash_view", shape.task.hash_view, hashed)
        yield self._view("task.count_view", shape.task.count_view, _NUMBER)
        yield self._view("deadline.window_view", shape.deadline.window_view, _NUMBER)
        if shape.response is not None:
            yield self._view("response.hash_view", shape.response.hash_view, _HASH if shape.response.hash else _ANY)
        if shape.call is not None and "sender_view" in shape.call.model_fields_set:
            yield self._view("call.sender_view", shape.call.sender_view, _ADDRESS)

    def _view(self, key: str, view: ViewShape | None, wanted: str) -> str:
        if view is None:
            return ""
        written, name = str(view.signature), view.signature.name
        entry = next((entry for one, entry in self._found.get(("function", name), []) if str(one) == written), None)
        if entry is None:
            return f"{key}: the ABI has no {brief(written, 200)}; {self._instead('function', name)}"
        if entry.get("stateMutability") not in _READS:
            return f"{key}: {name} is {brief(str(entry['stateMutability']))} in the ABI, and no view"
        try:
            words = [word for one in abi_parameters(entry.get("outputs", [])) for word in _words(one)]
        except FixConfiguration as wrong:
            return f"{key}: what {name} returns: {wrong}"
        return _word(key, view, words, wanted)


def _word(key: str, view: ViewShape, words: list[str], wanted: str) -> str:
    """What is wrong with the word that counts. `words` are the types, "" where a dynamic value's place is."""
    name = view.signature.name
    if view.word is None and len(words) != 1:
        return f'{key}: {name} returns {len(words)} words: say which, {{view = "{view.signature}", word = 0}}'
    place = view.word or 0
    if place >= len(words):
        return "" if "" in words else f"{key}: {name} returns {len(words)} words, from 0, and has no word {place}"
    found = words[place]
    if not found or not found.startswith(wanted):
        return f"{key}: word {place} of {name} is {found or 'no value but a place'}, and must be {wanted or 'a value'}"
    return ""


def _words(output: Parameter) -> list[str]:
    """The types of the words in the head of an answer, "" for the place of a value that lies behind."""
    parsed = parse(output.type)
    if parsed.is_dynamic:
        return [""]
    if parsed.arrlist:
        item = Parameter("", output.type[: output.type.rindex("[")])
        return _words(item) * int(parsed.arrlist[-1][0])
    if isinstance(parsed, TupleType):
        return [word for one in parsed.components for word in _words(Parameter("", one.to_type_str()))]
    return [output.type]


def _shown(signature: Signature) -> str:
    """The canonical form, with `indexed` where that stands: a log's layout."""
    inputs = (one.type + (" indexed" if one.indexed else "") for one in signature.inputs)
    return f"{signature.name}({','.join(inputs)})"
