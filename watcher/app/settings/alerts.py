"""The table [alerts]: who is told, how soon, and how often."""

from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr

from watcher.app.settings import checks
from watcher.app.settings.section import Seconds, Section


class Alerts(Section):
    """Who is told when something is wrong. Without a URL nobody is."""

    urls: Annotated[tuple[SecretStr, ...], BeforeValidator(checks.alert_urls)] = Field(
        default=(),
        description="Services to tell, as Apprise URLs (docs/alerts.md), one a line. Never in this file.",
    )
    deadline_blocks: int = Field(
        default=10,
        ge=0,
        le=1_000_000,
        description="Blocks before its deadline at which a task without an answer on the chain is in danger.",
    )
    deadline_s: float = Field(
        default=120.0,
        ge=0,
        le=604_800,
        description="The same in seconds for deadlines that are times; never before a task's last quarter.",
    )
    interval_s: Seconds = Field(
        default=30.0,
        le=86_400,
        description="The least time between two messages; what happens meanwhile goes together.",
    )
    hourly_limit: int = Field(default=30, ge=1, le=1000, description="The most messages within an hour.")
    repeat_s: float = Field(
        default=21_600.0, ge=0, le=604_800, description="How often to remind of what is still wrong; 0 never does."
    )
    timeout_s: Seconds = Field(
        default=15.0, le=300, description="Time for one message to one service; it is tried three times."
    )
