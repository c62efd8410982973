"""The table [ledger]: the database that remembers everything."""

import re
import warnings
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from watcher.settings import checks
from watcher.settings.section import Section

_SCHEMA = re.compile(r"[a-z][a-z0-9_]{0,62}")


def ledger_url(text: str) -> str:
    """Return a URL sqlite:///path (a file, never memory) or postgresql://..."""
    checks.one_line(text)
    if len(text) > checks.URL_LIMIT_CHARS:
        raise ValueError(f"must have {checks.URL_LIMIT_CHARS} characters at most")
    if text.startswith("sqlite:"):
        path = text.removeprefix("sqlite:///")
        if path == text or not path.strip("/") or path.endswith("/"):
            raise ValueError("must name a file: sqlite:///relative.db or sqlite:////absolute/path.db")
        if path.startswith((":memory:", "file:")) or "?" in path:
            raise ValueError("must be a plain file: a ledger in memory or with options cannot be trusted after a crash")
        return text
    if text.startswith(("postgresql://", "postgresql+psycopg://")):
        try:
            checks.port_of(urlsplit(text))
        except ValueError:
            raise ValueError("is not a valid postgresql:// URL") from None
        return text
    raise ValueError("must be sqlite:///path or postgresql://...")


def schema_or_none(text: str) -> str:
    """Return the name of a PostgreSQL schema, or ""."""
    if text and not _SCHEMA.fullmatch(text):
        raise ValueError("must be a letter, then letters, digits and _, all small, 63 at most")
    if text.startswith("pg_"):
        raise ValueError("must not begin with pg_, as the server's own schemas do")
    return text


def url_in_schema(url: str, schema: str) -> str:
    """Return the URL of a ledger with its schema in the query, as `watcher.ledger.engine` reads it."""
    if url.startswith("sqlite:"):
        if schema:
            raise ValueError("must be postgresql://... where ledger.schema names a schema")
        return url
    named = [value for name, value in parse_qsl(urlsplit(url).query) if name == "schema"]
    for name in named:
        schema_or_none(name)
        if schema and name != schema:
            raise ValueError("names another schema than ledger.schema")
    return url if named or not schema else f"{url}{'&' if '?' in url else '?'}schema={schema}"


with warnings.catch_warnings():
    # `schema` hides a method of pydantic's that is deprecated and that nothing here calls.
    warnings.simplefilter("ignore", UserWarning)

    class Ledger(Section):
        """The database that remembers everything."""

        schema: Annotated[str, AfterValidator(schema_or_none)] = Field(  # type: ignore[assignment]
            default="",
            description='The PostgreSQL schema of the ledger, made at the first start; "" is the one that the server '
            "chooses (public). Of several AVSs each has avs_NAME by default.",
        )
        url: Annotated[str, AfterValidator(ledger_url)] = Field(
            default="sqlite:///watcher.db",
            repr=False,
            description="sqlite:///path or postgresql://... Default: $STATE_DIRECTORY/watcher.db, else ./watcher.db.",
        )

        @field_validator("url")
        @classmethod
        def _in_its_schema(cls, value: str, info: ValidationInfo) -> str:
            """Return the URL with the schema in it, so that whoever opens the ledger needs one value."""
            return url_in_schema(value, info.data.get("schema", ""))
