"""The receivers of roots besides log and webhook, and all that the settings name."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from watcher.daemon.publication import Publication, Receiver
from watcher.daemon.roots_file import append_roots
from watcher.daemon.webhook import Webhook
from watcher.health.alerts import Alerts
from watcher.health.root_metrics import RootMetrics
from watcher.ledger.audit.roots import Root
from watcher.settings.model import Settings


@dataclass(frozen=True, slots=True)
class RootsFile:
    """The file audit.roots_file."""

    path: Path
    chain_id: int
    task_manager: bytes
    name: str = "audit.roots_file"
    keeps_all: bool = True

    async def take(self, roots: Sequence[Root]) -> None:
        """Add the roots to the file. Raises TryLater as `append_roots` does."""
        await asyncio.to_thread(append_roots, self.path, roots, self.chain_id, self.task_manager)


@dataclass(frozen=True, slots=True)
class AlertServices:
    """The services of alerts.urls: one message, however many roots there are."""

    alerts: Alerts
    name: str = "alerts"
    keeps_all: bool = False

    async def take(self, roots: Sequence[Root]) -> None:
        """Queue the message; the delivery tries it three times."""
        self.alerts.announce(roots[-1], len(roots) - 1)


@dataclass(frozen=True, slots=True)
class MetricsOfRoots:
    """The metrics, which show the newest root."""

    metrics: RootMetrics
    name: str = "metrics"
    keeps_all: bool = True

    async def take(self, roots: Sequence[Root]) -> None:
        """Show the newest of the roots."""
        self.metrics.show(roots[-1])


def publication(settings: Settings, alerts: Alerts, metrics: RootMetrics) -> Publication:
    """Return the publication to the receivers that [audit] names.

    Args:
        settings: the sections audit, chain and task_manager are read.
        alerts: the alerts of the daemon.
        metrics: the metrics of the roots.
    """
    section, chain_id, task_manager = settings.audit, settings.chain.chain_id, settings.task_manager.address_bytes
    receivers: list[Receiver] = [MetricsOfRoots(metrics)]
    if section.alerts:
        receivers.append(AlertServices(alerts))
    if section.roots_file:
        receivers.append(RootsFile(Path(section.roots_file), chain_id, task_manager))
    if section.webhook is not None:
        receivers.append(Webhook(section.webhook.get_secret_value(), chain_id, task_manager))
    return Publication(receivers, metrics)
