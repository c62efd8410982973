"""The settings as the daemon reads them: frozen, complete, checked.

Sources and their precedence are in `load`. Invariant: a `Settings`
that exists is valid, and neither its repr nor an error about it shows a password or a URL. The descriptions here are
the source of `docs/settings.md` and of the file that `watcher init` writes.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from watcher.files import preset_names
from watcher.settings import checks, targets
from watcher.settings.audit import Audit
from watcher.settings.daemon import Daemon
from watcher.settings.hook import Hook
from watcher.settings.http import Http
from watcher.settings.ledger import Ledger
from watcher.settings.operator import NEEDED, Operator, sending
from watcher.settings.section import KIB, MIB, Seconds, Section

# Messages and docs/settings.md list the names; a type checker needs a type that stands in the text.
if TYPE_CHECKING:
    ConventionName = str
else:
    ConventionName = Literal[(*preset_names(), "custom")]


class Alerts(Section):
    """The receivers of alerts. Without a URL no alert is sent."""

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


MAX_INT = 2**63 - 1


class Chain(Section):
    """The nodes that the chain is read from, and the evidence that counts."""

    rpc_urls: Annotated[tuple[str, ...], BeforeValidator(checks.rpc_urls)] = Field(
        repr=False,
        examples=[["http://127.0.0.1:8545", "ws://127.0.0.1:8545"]],
        description="Nodes. http(s) for truth, several for failover; ws(s) optional, only wakes the watcher up sooner.",
    )
    chain_id: int = Field(
        ge=1, le=MAX_INT, examples=[31337], description="The chain's id; checked on every connect to a node."
    )
    confirmations: int = Field(
        default=2,
        ge=0,
        le=10_000,
        description="Blocks above the task's block before it is answered. 0 answers at once.",
    )
    finality: Annotated[int | Literal["finalized", "safe"], BeforeValidator(checks.finality)] = Field(
        default="finalized",
        description='When an outcome counts for good: the node\'s "finalized" or "safe" block, or a depth in blocks.',
    )
    contract_blocks: Literal["auto", "own", "parent"] = Field(
        default="auto",
        description='Whose blocks contracts count in block.number, and deadlines with them: the chain\'s "own", or its '
        '"parent" chain\'s (l1BlockNumber, on Arbitrum and Orbit). "auto" asks the chain.',
    )
    quorum: int = Field(
        default=1,
        ge=1,
        le=8,
        description="How many of the http(s) nodes must show the same head, finality and state before it is believed.",
    )
    poll_interval_s: Seconds = Field(default=2.0, le=3600, description="How often the head is asked for.")
    request_timeout_s: Seconds = Field(default=20.0, le=600, description="Total time for one request to a node.")
    body_limit_bytes: int = Field(
        default=32 * MIB, ge=64 * KIB, le=1024 * MIB, description="The longest answer accepted from a node."
    )
    max_span_blocks: int = Field(
        default=2000,
        ge=1,
        le=1_000_000,
        description="The longest range asked for at once; halved where a node refuses it.",
    )

    @field_validator("quorum")
    @classmethod
    def _enough_nodes(cls, value: int, info: ValidationInfo) -> int:
        urls = info.data.get("rpc_urls", ())
        if urls and value > sum(url.lower().startswith("http") for url in urls):
            raise ValueError("must not be more than the http(s) URLs in chain.rpc_urls")
        return value

    @property
    def http_urls(self) -> tuple[str, ...]:
        """The endpoints that are asked for truth, in order of preference."""
        return tuple(url for url in self.rpc_urls if url.lower().startswith("http"))

    @property
    def ws_urls(self) -> tuple[str, ...]:
        """The endpoints that only wake us up."""
        return tuple(url for url in self.rpc_urls if url.lower().startswith("ws"))


class TaskManager(Section):
    """The contract that creates the tasks."""

    address: Annotated[str, AfterValidator(checks.address)] = Field(
        examples=["0x0000000000000000000000000000000000000000"],
        description="The task manager contract, 20 bytes of hex; the checksum is verified where the case is mixed.",
    )
    start_block: Annotated[int | Literal["latest"], BeforeValidator(checks.start_block)] = Field(
        examples=[0],
        description='First block to read: a number, or "latest" for the head at the first start (and only then).',
    )
    convention: ConventionName = Field(
        default="wizard", description='The shape of the contract: a preset, or "custom" for one described in a file.'
    )
    convention_file: Annotated[str, AfterValidator(checks.file)] = Field(
        default="", max_length=4096, description='The file for convention = "custom"; docs/conventions.md says how.'
    )

    message_limit_bytes: int = Field(
        default=256 * KIB,
        ge=1 * KIB,
        le=16 * MIB,
        description="The longest message of a task, or of its response on the chain; a longer one is set aside.",
    )

    dry_run: bool = Field(
        default=True,
        description="Ask the contract by eth_call what it would say to an answer, before the answer is first sent.",
    )

    @field_validator("convention_file")
    @classmethod
    def _described(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.data.get("convention") == "custom":
            raise ValueError(f'{NEEDED} for task_manager.convention = "custom"')
        return value

    @property
    def address_bytes(self) -> bytes:
        """The 20 bytes of `address`."""
        return bytes.fromhex(self.address[2:])


class Log(Section):
    """The log on standard error."""

    level: Annotated[Literal["trace", "debug", "info", "warning", "error"], BeforeValidator(checks.lower)] = Field(
        default="info", description="The least important records shown."
    )
    format: Literal["auto", "text", "json"] = Field(
        default="auto",
        description='"auto" is text, in colour on a terminal; "text" has no colour; "json" is one object a line.',
    )


class Settings(BaseSettings):
    """All settings, made by `load`. Made directly, it checks its arguments and reads no source."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    # A missing table is an empty one, so that what is required in it is named key by key.
    chain: Chain = Field(default={}, validate_default=True)
    task_manager: TaskManager = Field(default={}, validate_default=True)
    hook: Hook = Field(default={}, validate_default=True)
    daemon: Daemon = Field(default={}, validate_default=True)  # before [operator], whose keys depend on the roles
    operator: Operator = Field(default={}, validate_default=True)
    ledger: Ledger = Field(default={}, validate_default=True)
    http: Http = Field(default={}, validate_default=True)
    log: Log = Field(default={}, validate_default=True)
    alerts: Alerts = Field(default={}, validate_default=True)
    audit: Audit = Field(default={}, validate_default=True)

    @field_validator("operator", mode="wrap")
    @classmethod
    def _needed_to_send(cls, value: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Operator:
        """Require the API and its password only of a process that sends to it."""
        daemon: Daemon | None = info.data.get("daemon")
        with sending(daemon is None or "submit" in daemon.roles):
            operator: Operator = check(value)
        return operator

    @property
    def answers(self) -> bool:
        """Return False if the watcher observes only, whatever the roles of this process."""
        return self.operator.api != "none"

    @property
    def sends(self) -> bool:
        """Return True if this process sends answers to the API."""
        return self.answers and "submit" in self.daemon.roles

    @property
    def runs_hook(self) -> bool:
        """Return True if this process runs the hook."""
        return self.answers and "respond" in self.daemon.roles

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's signature
        init_settings: PydanticBaseSettingsSource,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The library's own environment source takes JSON for whole tables and ignores names it does not know.
        return (init_settings,)

    def secrets(self) -> tuple[str, ...]:
        """Return every secret string, for the redaction of the log. Never print this."""
        direct = self.operator.direct
        own = (self.operator.password, direct.password, self.http.token)
        passwords = [password.get_secret_value() for password in own if password]
        own_targets = (self.hook.target, self.hook.shadow.target)
        hook_urls = [part for target in own_targets if target for part in targets.secret_parts(target)]
        urls = (*self.chain.rpc_urls, self.operator.url, direct.url, *hook_urls, self.ledger.url)
        remote = (url for url in urls if "://" in url and not url.startswith("sqlite:"))
        receivers = (*self.alerts.urls, self.audit.webhook)
        alerts = (part for url in receivers if url is not None for part in checks.alert_secrets(url.get_secret_value()))
        return (*remote, *passwords, *alerts)
