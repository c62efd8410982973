"""The examination: every part checked, in parallel where one does not need the other, each within its time."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from watcher.chain.contract import TaskManager
from watcher.chain.numbering import Numbering, contradiction
from watcher.chain.rpc.nodes import NodePool
from watcher.clock import Clock, SystemClock
from watcher.daemon import parts
from watcher.doctor.api import check_api
from watcher.doctor.audit import check_audit
from watcher.doctor.contract import check_contract
from watcher.doctor.finding import UNAVAILABLE, Finding, Notes
from watcher.doctor.hook import check_hook, check_shadow
from watcher.doctor.ledger import check_genesis, check_ledger
from watcher.doctor.node import check_clock, check_endpoints, check_history, check_numbering, check_subscriptions
from watcher.doctor.subject import Subject
from watcher.errors import FixConfiguration, WatcherError
from watcher.settings.credentials import exposed, exposure_message
from watcher.settings.daemon import ROLES
from watcher.settings.model import Settings
from watcher.task import Header, Task

# More than one request may take: a part makes several in a row.
_PATIENCE_S = 60.0

# The remedy where a part fails half-way.
_ENDPOINT = "try again, or name another endpoint"
_CHAIN = "docs/chains.md lists the chains that can be served"
_LEDGER = "correct ledger.url, or restore a copy (docs/service.md)"
_HOOK = "correct the hook, or correct hook.target and hook.app_dir"

T = TypeVar("T")


@dataclass(slots=True)
class Examination:
    """One check of every part.

    Attributes:
        settings: the settings to try.
        on_part: called with the name of each part when its check begins.
        config: the configuration file, hidden from the hook; None: there is none.
    """

    settings: Settings
    on_part: Callable[[str], None] = lambda _what: None
    config: Path | None = None
    ledger: Notes = field(default_factory=lambda: Notes("ledger"))
    node: Notes = field(default_factory=lambda: Notes("node"))
    contract: Notes = field(default_factory=lambda: Notes("contract"))
    audit: Notes = field(default_factory=lambda: Notes("audit"))
    api: Notes = field(default_factory=lambda: Notes("API"))
    hook: Notes = field(default_factory=lambda: Notes("hook"))
    numbering: Numbering | None = None

    async def run(self) -> list[Finding]:
        """Return all findings, part by part."""
        settings = self.settings
        ledger = check_ledger(settings.ledger, settings.chain.chain_id, settings.task_manager, self.ledger)
        await asyncio.gather(self._part(self.ledger, ledger, "reading", _LEDGER), self._outside(), self._api())
        await asyncio.to_thread(check_audit, settings, self.audit)
        every = (self.ledger, self.audit, self.node, self.contract, self.api, self.hook)
        return [
            Finding("settings", "complete", "ok", "complete and valid"),
            *_secrets(),
            *_roles(settings),
            *(finding for notes in every for finding in notes.findings),
        ]

    async def _outside(self) -> None:
        """Check nodes, contract and hook, which need each other in this order."""
        settings, clock = self.settings, SystemClock()
        nodes = parts.node_pool(settings.chain, clock)
        try:
            manager, newest = self._manager(nodes), None
            head = await self._part(self.node, check_endpoints(nodes, self.node))
            if head is not None:
                await self._chain(nodes, head, clock)
            if manager is not None:
                subscriptions = parts.subscriptions(settings.chain, manager, lambda _block: None, clock)
                await self._part(self.node, check_subscriptions(subscriptions, self.node))
                newest = await self._contract(nodes, manager, head)
            if settings.runs_hook:
                hidden = parts.hidden_paths(settings.ledger, self.config, os.environ)
                hook = check_hook(settings.hook, hidden, manager, settings.chain.chain_id, newest, self.hook)
                await self._part(self.hook, hook, "loading", _HOOK)
                await self._part(self.hook, check_shadow(settings.hook, hidden, self.hook), "shadow")
        finally:
            await nodes.close()

    async def _chain(self, nodes: NodePool, head: Header, clock: Clock) -> None:
        chain, section, notes = self.settings.chain, self.settings.task_manager, self.node
        self.numbering = await self._part(notes, check_numbering(chain, nodes, clock, notes), "block numbers", _CHAIN)
        history = check_history(chain, section.address_bytes, section.start_block, nodes, head, notes)
        await self._part(notes, history)
        await self._part(notes, check_genesis(self.settings.ledger, chain.chain_id, section, nodes, notes))
        await self._part(notes, check_clock(nodes, head, clock, notes))

    async def _contract(self, nodes: NodePool, manager: TaskManager, head: Header | None) -> Task | None:
        """Check the contract and return its newest task."""
        if head is None:
            codes = [finding.exit_code for finding in self.node.findings if finding.exit_code]
            message = "cannot be checked without a node: repair that first"
            self.contract.wrong("code", message, max(codes, default=UNAVAILABLE))
            return None
        l1_blocks = self.numbering is not None and self.numbering.l1_blocks
        subject = Subject(nodes, manager, head, self.settings.chain, self.settings.task_manager)
        newest = await self._part(
            self.contract, check_contract(subject, self.settings.operator, self.contract, l1_blocks=l1_blocks)
        )
        reason = contradiction(newest, self.numbering) if newest and self.numbering else None
        if reason is not None:
            self.contract.wrong("created block", reason)
        return newest

    def _manager(self, nodes: NodePool) -> TaskManager | None:
        """Return the contract with its convention; None, with a finding, if the convention cannot be read."""
        answers, span_blocks = self.settings.answers, self.settings.chain.max_span_blocks
        try:
            return parts.task_manager(self.settings.task_manager, nodes, span_blocks, answers=answers)
        except FixConfiguration as error:
            self.contract.failed("convention", error, "docs/conventions.md explains every key")
            return None

    async def _api(self) -> None:
        if self.settings.sends:
            await self._part(self.api, check_api(self.settings.operator, self.api))

    async def _part(
        self, notes: Notes, work: Awaitable[T], check: str = "reading", advice: str = _ENDPOINT
    ) -> T | None:
        """Return the result of `work`; None, with a red line, if it fails or takes too long.

        Args:
            notes: the findings of the part.
            work: the check.
            check: the aspect to name if it fails.
            advice: the remedy to name if it fails.
        """
        self.on_part(notes.what)
        limit_s = _PATIENCE_S + 3 * self.settings.chain.request_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await work
        except TimeoutError:
            message = f"not done within {limit_s:g} s: an endpoint answers very slowly; try again, or name another one"
            notes.wrong("time", message, UNAVAILABLE)
        except WatcherError as error:
            notes.failed(check, error, advice)
        return None


def _secrets() -> list[Finding]:
    """Return a finding on credential files that every user can read."""
    names = exposed(os.environ.get("CREDENTIALS_DIRECTORY", ""))
    return [Finding("settings", "secrets", "warning", exposure_message(names))] if names else []


def _roles(settings: Settings) -> list[Finding]:
    """Return a finding on the roles of a process that shares its ledger, and on a password that it does not need."""
    roles = settings.daemon.roles
    if set(roles) == set(ROLES):
        return []
    if settings.answers and not settings.sends and (settings.operator.password or settings.operator.direct.password):
        message = "this process sends nothing, and has the API's password all the same: take it from this host"
        return [Finding("settings", "roles", "warning", message)]
    return [Finding("settings", "roles", "ok", f"this process has {', '.join(roles)}")]


def exit_code(findings: Sequence[Finding]) -> int:
    """Return the exit code of a check: an error for a person to correct comes before one that may pass."""
    codes = [finding.exit_code for finding in findings if finding.exit_code]
    return FixConfiguration.exit_code if FixConfiguration.exit_code in codes else codes[0] if codes else 0
