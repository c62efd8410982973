"""Calls of verbs that wait for the writer, and their execution within a transaction.

A batched verb takes the items of all calls that wait. Invariant: an item that has failed spoils no other item.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from watcher.errors import LostLease
from watcher.ledger.transaction import Tx

T = TypeVar("T")
Item = TypeVar("Item")

Verb = Callable[[Tx], T]
# Returns one result or error per item, in order. An item that has failed has changed nothing.
BatchedVerb = Callable[[Tx, Sequence[Item]], Sequence[T | LostLease]]


@dataclass(slots=True)
class Call(Generic[T]):
    """A verb that waits, or one `item` of a batched verb.

    `deferred`: its commit may wait for the next sync. `follows`: it has waited for a transaction to come with; it then
    knows of `known_elsewhere` commits of others.
    """

    future: asyncio.Future[T]
    verb: Verb[T] | None = None
    batched: BatchedVerb[Any, T] | None = None
    item: Any = None
    deferred: bool = False
    follows: bool = False
    known_elsewhere: int = 0
    result: Any = None
    error: BaseException | None = None


def executions(batch: list[Call[Any]]) -> list[list[Call[Any]]]:
    """Return groups of calls, one per execution, in the order of the first call of each."""
    together: dict[int, list[Call[Any]]] = {}
    for call in batch:
        together.setdefault(id(call if call.batched is None else call.batched), []).append(call)
    return list(together.values())


def execute(tx: Tx, calls: list[Call[Any]]) -> None:
    """Run a verb, or a batched verb on the items of its calls. An item's error goes to its call."""
    first = calls[0]
    if first.batched is None:
        assert first.verb is not None
        first.result = first.verb(tx)
        return
    results = first.batched(tx, [call.item for call in calls])
    for call, result in zip(calls, results, strict=True):
        call.result, call.error = (None, result) if isinstance(result, LostLease) else (result, None)
