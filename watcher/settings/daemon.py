"""The table [daemon]: the roles of a process among several that share a ledger."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from watcher.settings import checks
from watcher.settings.section import Section

Role = Literal["watch", "respond", "submit", "confirm"]
ROLES: tuple[Role, ...] = ("watch", "respond", "submit", "confirm")


class Daemon(Section):
    """The part of the work that this process does (docs/replicas.md)."""

    roles: Annotated[tuple[Role, ...], BeforeValidator(checks.roles)] = Field(
        default=ROLES,
        description="The stages that this process runs, for several that share a PostgreSQL ledger. One of those with "
        '"watch" reads the chain and keeps house, and the next takes over from it.',
    )
