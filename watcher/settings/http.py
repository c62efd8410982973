"""The table [http]: health, metrics and the dashboard, and who may use them."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator

from watcher.settings import checks
from watcher.settings.section import Section


class Http(Section):
    """Health, metrics and dashboard."""

    listen: Annotated[str, AfterValidator(checks.listen)] = Field(
        default="127.0.0.1:9010",
        description='host:port to serve them on; "" turns them off, port 0 takes any free port.',
    )
    dashboard: bool = Field(default=True, description="Serve the dashboard beside health and metrics.")
    token: SecretStr | None = Field(
        default=None,
        description="What a person logs in with to retry and skip tasks; elsewhere than on a loopback address to read, "
        "too. 16 characters or more. Never in this file. None: no login.",
    )
    protect: Literal["auto", "all"] = Field(
        default="auto",
        description='What needs the token: "auto" is retry and skip, and on another than a loopback address the whole '
        'dashboard; "all" is everything everywhere, health and metrics included.',
    )

    public_url: Annotated[str, AfterValidator(checks.public_url)] = Field(
        default="",
        examples=["https://watcher.example"],
        description="How browsers reach the dashboard through a reverse proxy, without a path. Its forms are "
        "taken, its name is served on a loopback address, and reading needs the token, too.",
    )

    @field_validator("token")
    @classmethod
    def _usable_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            checks.token(value.get_secret_value())
        return value

    @field_validator("protect")
    @classmethod
    def _with_a_token(cls, value: str, info: ValidationInfo) -> str:
        if value == "all" and info.data.get("token", value) is None:
            raise ValueError('"all" needs a token: set WATCHER_HTTP__TOKEN or the credential file http__token')
        return value

    @field_validator("public_url")
    @classmethod
    def _public_with_a_token(cls, value: str, info: ValidationInfo) -> str:
        if value and info.data.get("token", value) is None:
            raise ValueError("needs a token: set WATCHER_HTTP__TOKEN or the credential file http__token")
        return value

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port, or None where it is turned off."""
        return checks.host_port(self.listen) if self.listen else None
