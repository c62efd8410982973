"""A service level report, read from the ledger: for the command and for the dashboard."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from watcher.ledger import queries
from watcher.ledger.periods import periods_between
from watcher.ledger.reader import Reader
from watcher.ledger.service_level import identity
from watcher.report.availability import Availability, availability
from watcher.report.service_level import ServiceLevel, measure
from watcher.report.service_level_fields import Subject, document_of
from watcher.text import to_hex

_ALWAYS = ("chain-rpc", "operator-api", "handler", "store")


@dataclass(frozen=True, slots=True)
class ServiceReport:
    """A report: its JSON fields, and the values that its plots are made from."""

    document: Mapping[str, Any]
    level: ServiceLevel
    parts: Availability


def service_report(
    reader: Reader, source_id: int, since_ms: int, until_ms: int, step_ms: int, now_ms: int
) -> ServiceReport:
    """Return the report of a time.

    Args:
        reader: the ledger.
        source_id: the task manager.
        since_ms: the first moment, in milliseconds since 1970.
        until_ms: the moment behind the last.
        step_ms: the length of a step.
        now_ms: the present time, likewise.

    Raises:
        TryLater: the ledger cannot be read.
    """
    level = measure(reader, source_id, since_ms, until_ms, step_ms)
    chain_id, address = reader.read_now(identity, source_id)
    cursor = reader.read_now(queries.cursor, source_id)
    periods = reader.read_now(periods_between, source_id, since_ms, until_ms)
    parts = availability(periods, since_ms, max(since_ms, min(until_ms, now_ms)), _ALWAYS)
    subject = Subject(chain_id, to_hex(address), now_ms, cursor.block, cursor.final_block)
    return ServiceReport(document_of(subject, level, parts), level, parts)
