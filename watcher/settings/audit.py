"""The table [audit]: where the roots of past days go, beside log and metrics."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, field_validator

from watcher.settings import checks
from watcher.settings.section import Section


class Audit(Section):
    """The receivers of the roots of the audit chain, one root for each day (docs/audit-format.md)."""

    roots_file: Annotated[str, AfterValidator(checks.new_file_or_none)] = Field(
        default="",
        description="A file that gets each root as a line of JSON, for `watcher audit verify --roots`; its folder must "
        'be there. "": none.',
    )
    webhook: SecretStr | None = Field(
        default=None,
        description="An http(s) URL that gets the roots by POST, as JSON. Never in this file. None: no webhook.",
    )
    alerts: bool = Field(default=False, description="Tell the services of alerts.urls each root, once a day.")

    @field_validator("webhook")
    @classmethod
    def _usable_webhook(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            checks.parsed_url(value.get_secret_value(), "http", "https")
        return value
