"""The start: everything that must be known of chain and contract before the ledger is opened.

Invariant: a node or a reason that may pass is waited for; a contradiction between settings, chain and ledger ends the
start before anything is sent.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from loguru import logger

from watcher.backoff import doubled_s
from watcher.chain.contract import TaskManager
from watcher.chain.convention.view import NoSuchView
from watcher.chain.genesis import genesis_hash
from watcher.chain.numbering import Numbering, settle
from watcher.chain.rpc.nodes import NodePool
from watcher.clock import Clock
from watcher.daemon.announcer import Announcement
from watcher.errors import FixConfiguration, RetryElsewhere, TryLater
from watcher.ledger.known_sources import Beginning
from watcher.settings.model import Chain
from watcher.task import Header

T = TypeVar("T")

_PAUSE_FIRST_S = 0.5
_PAUSE_MAX_S = 10.0


class Stopped(Exception):
    """A stop was asked for before the stages ran."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Waiting for a part of the outside during the start; `stopping` ends it."""

    stopping: asyncio.Event
    announcement: Announcement

    async def until_answered(self, ask: Callable[[], Awaitable[T]], what: str) -> T:
        """Call `ask` until it returns, with growing pauses; log the first reason.

        Args:
            ask: the question.
            what: the part that is waited for, for log and service manager.

        Raises:
            Stopped: a stop was asked for.
            WatcherError: all errors of `ask` but RetryElsewhere and TryLater.
        """
        failures = 0
        while not self.stopping.is_set():
            try:
                return await ask()
            except (RetryElsewhere, TryLater) as error:
                failures += 1
                if failures == 1:
                    logger.warning("daemon.waiting: the start waits and retries", what=what, reason=str(error))
                    self.announcement.waiting(f"waiting for {what}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(doubled_s(failures, _PAUSE_FIRST_S, _PAUSE_MAX_S)):
                    await self.stopping.wait()
        raise Stopped


@dataclass(frozen=True, slots=True)
class ChainStart:
    """The chain and the contract at the start. `window_blocks` is the response window, None where there is none."""

    head: Header
    numbering: Numbering
    window_blocks: int | None
    genesis: bytes | None


async def read_chain(
    chain: Chain, contract: TaskManager, nodes: NodePool, clock: Clock, begun: Beginning | None, waiting: Waiting
) -> ChainStart:
    """Read head, numbering, response window and block 0, waiting for nodes that are down.

    Args:
        chain: the section [chain].
        contract: the task manager.
        nodes: where all of it is read.
        clock: paces the questions about the numbering.
        begun: the beginning of the ledger, None for a new one.
        waiting: what to do while no node answers.

    Raises:
        FixConfiguration: there is no such contract, or the chain is not the ledger's.
        Stopped: a stop was asked for.
    """
    head = await waiting.until_answered(nodes.head, "the chain")
    numbering = await waiting.until_answered(lambda: settle(nodes, clock, chain.contract_blocks), "the chain")
    window_blocks = await waiting.until_answered(lambda: _window(contract, nodes, chain.chain_id), "the contract")
    genesis = await waiting.until_answered(lambda: genesis_hash(nodes, begun), "the chain")
    return ChainStart(numbering.read(head), numbering, window_blocks, genesis)


async def _window(contract: TaskManager, nodes: NodePool, chain_id: int) -> int | None:
    """Return the response window in blocks. Raises FixConfiguration if the address holds another contract or none."""
    # At the present head: a reorg may have taken an earlier one, and the wait for that would never end.
    head = await nodes.head()
    try:
        return await contract.response_window(head)
    except NoSuchView as error:
        if await contract.has_no_code(head):
            raise FixConfiguration(
                f"task_manager.address: there is no code at 0x{contract.address.hex()} on chain {chain_id} "
                f"(block {head.number}); correct the address or chain.chain_id"
            ) from None
        raise FixConfiguration(f"task_manager.address: {error}") from None
