"""The comparison of a convention file with the contract's ABI: events, views, the function for answers. Pure."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from watcher.chain.convention import kinds
from watcher.chain.convention.event import Event
from watcher.chain.convention.schema import ObservedSchema
from watcher.chain.convention.signature import Signature, abi_parameters, abi_signature
from watcher.chain.convention.view_schema import ViewSchema
from watcher.errors import FixConfiguration
from watcher.validation import brief, shortened

_READS = frozenset({"view", "pure", None})
_ANY, _HASH, _NUMBER, _ADDRESS = "", "bytes32", "uint", "address"


class ContractAbi:
    """The events and functions of a compiler's ABI by name, without its unreadable entries."""

    def __init__(self, abi: Sequence[Any]) -> None:
        self._entries: dict[tuple[str, str], list[tuple[Signature, dict[str, Any]]]] = {}
        for entry in abi:
            if isinstance(entry, dict) and entry.get("type") in ("event", "function") and not entry.get("anonymous"):
                with suppress(FixConfiguration):
                    signature = abi_signature(entry)
                    self._entries.setdefault((entry["type"], signature.name), []).append((signature, entry))

    def differences(self, schema: ObservedSchema, created: Event, responded: Event | None, function: str) -> list[str]:
        """Return one line, with its key, for each signature that the ABI does not have.

        Args:
            schema: the convention file.
            created: the event that creates tasks.
            responded: the event that shows answers, if any.
            function: the canonical signature of the function for answers, or "".
        """
        lines = [self._event("task.event", created), *self._views(schema)]
        if responded is not None:
            lines.append(self._event("response.event", responded))
        if function:
            name = function.partition("(")[0]
            known = self._entries.get(("function", name), [])
            if function not in [str(signature) for signature, _ in known]:
                lines.append(f"call: the ABI has no {brief(function, 200)}; {self._instead('function', name)}")
        return [line for line in lines if line]

    def _event(self, key: str, event: Event) -> str:
        layout, name = _layout(event.signature), event.signature.name
        if layout in [_layout(signature) for signature, _ in self._entries.get(("event", name), [])]:
            return ""
        return f"{key}: the ABI has no {brief(layout, 200)}; {self._instead('event', name)}"

    def _instead(self, kind: str, name: str) -> str:
        """Return the ABI's signatures of this name; all its names of the kind where there is none."""
        if overloads := self._entries.get((kind, name)):
            return f"it has {' and '.join(brief(_layout(signature), 200) for signature, _ in overloads[:3])}"
        names = sorted({known_name for known_kind, known_name in self._entries if known_kind == kind})
        return f"it has {shortened(names) or 'none'}"

    def _views(self, schema: ObservedSchema) -> Iterator[str]:
        hashed = _HASH if schema.task.hash else _ANY
        yield self._view("task.hash_view", schema.task.hash_view, hashed)
        yield self._view("task.count_view", schema.task.count_view, _NUMBER)
        yield self._view("deadline.window_view", schema.deadline.window_view, _NUMBER)
        if schema.response is not None:
            yield self._view("response.hash_view", schema.response.hash_view, _HASH if schema.response.hash else _ANY)
        if schema.call is not None and "sender_view" in schema.call.model_fields_set:
            yield self._view("call.sender_view", schema.call.sender_view, _ADDRESS)

    def _view(self, key: str, view: ViewSchema | None, expected: str) -> str:
        if view is None:
            return ""
        text, name = str(view.signature), view.signature.name
        overloads = self._entries.get(("function", name), [])
        entry = next((entry for signature, entry in overloads if str(signature) == text), None)
        if entry is None:
            return f"{key}: the ABI has no {brief(text, 200)}; {self._instead('function', name)}"
        if entry.get("stateMutability") not in _READS:
            return f"{key}: {name} is {brief(str(entry['stateMutability']))} in the ABI, and no view"
        try:
            kinds = [kind for output in abi_parameters(entry.get("outputs", [])) for kind in _word_kinds(output.type)]
        except FixConfiguration as error:
            return f"{key}: the outputs of {name}: {error}"
        return _word_error(key, view, kinds, expected)


def _word_error(key: str, view: ViewSchema, kinds: list[str], expected: str) -> str:
    """Return the error in the word that the view names, "" if there is none.

    Args:
        key: the key of the file, to begin the line with.
        view: the view as the file names it.
        kinds: the types of the words it returns; "" for the offset of a dynamic value.
        expected: the beginning of the expected type; "" for any.
    """
    name = view.signature.name
    if view.word is None and len(kinds) != 1:
        return f'{key}: {name} returns {len(kinds)} words: choose one, {{view = "{view.signature}", word = 0}}'
    position = view.word or 0
    if position >= len(kinds):
        return "" if "" in kinds else f"{key}: {name} returns {len(kinds)} words, from 0, and has no word {position}"
    actual = kinds[position]
    if not actual or not actual.startswith(expected):
        return f"{key}: word {position} of {name} is {actual or 'an offset'}, and must be {expected or 'a value'}"
    return ""


def _word_kinds(kind: str) -> list[str]:
    """Return the types of the words in the head of one output of this type; "" for the offset of a dynamic value."""
    if kinds.is_dynamic(kind):
        return [""]
    if items := kinds.array(kind):
        return _word_kinds(items[0]) * (items[1] or 0)
    if members := kinds.members(kind):
        return [word for member in members for word in _word_kinds(member)]
    return [kind]


def _layout(signature: Signature) -> str:
    """Return the canonical form with `indexed` after each indexed type: the layout of a log."""
    inputs = (parameter.type + (" indexed" if parameter.indexed else "") for parameter in signature.inputs)
    return f"{signature.name}({','.join(inputs)})"
