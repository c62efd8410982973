"""Every part looked at, side by side where one does not need the other, and each within its time."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from watcher.chain.contract import TaskManager
from watcher.chain.numbering import Numbering, contradiction
from watcher.chain.rpc.nodes import NodePool
from watcher.clock import SystemClock
from watcher.daemon import parts
from watcher.doctor import api, clock, contract, hook, ledger
from watcher.doctor import node as doctor_node
from watcher.doctor.finding import UNAVAILABLE, Finding, Notes
from watcher.errors import FixConfiguration, WatcherError
from watcher.settings.credentials import exposed, words_about
from watcher.settings.model import Settings
from watcher.task import Header, Task

# Beyond what one request may take: several are made in a row.
_PATIENCE_S = 60.0

# What to do where a part comes to nothing in the middle.
_ENDPOINT = "try again, or name another endpoint"
_CHAIN = "docs/chains.md tells which chains can be served"
_LEDGER = "see to ledger.url, or restore a copy (docs/service.md)"
_HOOK = "correct the hook, or correct hook.target and hook.app_dir"

T = TypeVar("T")
Told = Callable[[str], None]


@dataclass(slots=True)
class Examination:
    """One check of everything. `told` is called with what is being looked at; `config` is hidden from the hook."""

    settings: Settings
    told: Told = lambda _what: None
    config: Path | None = None
    ledger: Notes = field(default_factory=lambda: Notes("ledger"))
    node: Notes = field(default_factory=lambda: Notes("node"))
    contract: Notes = field(default_factory=lambda: Notes("contract"))
    api: Notes = field(default_factory=lambda: Notes("API"))
    hook: Notes = field(default_factory=lambda: Notes("hook"))
    numbering: Numbering | None = None

    async def run(self) -> list[Finding]:
        """All lines, part by part."""
        await asyncio.gather(
            self._part(self.ledger, ledger.check(self.settings, self.ledger), "reading", _LEDGER),
            self._outside(),
            self._api(),
        )
        parts = (self.ledger, self.node, self.contract, self.api, self.hook)
        return [
            Finding("settings", "complete", "ok", "complete and valid"),
            *self._secrets(),
            *(f for one in parts for f in one.findings),
        ]

    def _secrets(self) -> list[Finding]:
        names = exposed(os.environ.get("CREDENTIALS_DIRECTORY", ""))
        return [Finding("settings", "secrets", "warning", words_about(names))] if names else []

    async def _outside(self) -> None:
        """Node, contract and hook, which need each other in this order."""
        system_clock = SystemClock()
        nodes = parts.node_pool(self.settings.chain, system_clock)
        try:
            manager, sample = self._manager(nodes), None
            head = await self._part(self.node, doctor_node.endpoints(nodes, self.node))
            if head is not None:
                self.numbering = await self._part(
                    self.node,
                    doctor_node.numbering(self.settings, nodes, system_clock, self.node),
                    "block numbers",
                    _CHAIN,
                )
                await self._part(self.node, doctor_node.history(self.settings, nodes, head, self.node))
                await self._part(self.node, ledger.same_chain(self.settings, nodes, self.node))
                await self._part(self.node, clock.check(nodes, head, system_clock, self.node))
            if manager is not None:
                wakes = parts.subscriptions(self.settings.chain, manager, lambda: None, system_clock)
                await self._part(self.node, doctor_node.wakes(wakes, self.node))
                sample = await self._contract(nodes, manager, head)
            if self.settings.operator.api != "none":
                await self._part(
                    self.hook, hook.check(self.settings, self.config, manager, sample, self.hook), "loading", _HOOK
                )
        finally:
            await nodes.close()

    async def _contract(self, nodes: NodePool, manager: TaskManager, head: Header | None) -> Task | None:
        if head is None:
            codes = [one.exit_code for one in self.node.findings if one.exit_code]
            words = "cannot be looked at without a node: mend that first"
            self.contract.wrong("code", words, max(codes, default=UNAVAILABLE))
            return None
        l1_blocks = self.numbering is not None and self.numbering.l1_blocks
        sample = await self._part(
            self.contract, contract.check(self.settings, nodes, manager, head, self.contract, l1_blocks=l1_blocks)
        )
        reason = contradiction(sample, self.numbering) if sample and self.numbering else None
        if reason is not None:
            self.contract.wrong("created block", reason)
        return sample

    def _manager(self, nodes: NodePool) -> TaskManager | None:
        try:
            answers = self.settings.operator.api != "none"
            span = self.settings.chain.max_span_blocks
            return parts.task_manager(self.settings.task_manager, nodes, span, answers=answers)
        except FixConfiguration as wrong:
            self.contract.failed("convention", wrong, "docs/conventions.md explains every key")
            return None

    async def _api(self) -> None:
        if self.settings.operator.api != "none":
            await self._part(self.api, api.check(self.settings, self.api))

    async def _part(
        self, notes: Notes, work: Awaitable[T], check: str = "reading", advice: str = _ENDPOINT
    ) -> T | None:
        """What the work gives; None, and a red line, where it comes to nothing or takes too long."""
        self.told(notes.what)
        limit_s = _PATIENCE_S + 3 * self.settings.chain.request_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await work
        except TimeoutError:
            words = f"not done within {limit_s:g} s: something answers very slowly; try again, or name another endpoint"
            notes.wrong("time", words, UNAVAILABLE)
        except WatcherError as error:
            notes.failed(check, error, advice)
        return None


def exit_code(findings: Sequence[Finding]) -> int:
    """What a person must mend comes before what may pass by itself."""
    codes = [one.exit_code for one in findings if one.exit_code]
    return FixConfiguration.exit_code if FixConfiguration.exit_code in codes else codes[0] if codes else 0
