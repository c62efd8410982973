"""The tables [operator] and [operator.direct]: AltLayer's two APIs, and which of them gets what."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator

from watcher.settings import checks
from watcher.settings.section import KIB, MIB, Seconds, Section

NEEDED = "is required"
PASSWORD_NEEDED = f"{NEEDED}: set WATCHER_OPERATOR__PASSWORD or the credential file operator__password"

T = TypeVar("T")
# False while the settings of a process are checked that sends nothing: another table says so ([daemon] roles).
_IS_SENDING: ContextVar[bool] = ContextVar("is_sending", default=True)


class Direct(Section):
    """The operator API beside the proxy: for tasks the proxy cannot serve, and in its place while it is away."""

    allow_plain_http: bool = Field(
        default=False, description="Allow http:// to another machine, although the password travels in clear."
    )
    url: str = Field(
        default="", repr=False, description='The operator API\'s address; "" where there is none beside the proxy.'
    )
    ca_file: Annotated[str, AfterValidator(checks.file)] = Field(
        default="", max_length=4096, description="PEM file of the authorities to trust in place of the public ones."
    )
    avs_name: Annotated[str, AfterValidator(checks.one_line)] = Field(
        default="", max_length=200, description="The AVS as this API knows it. Required with a url."
    )
    username: Annotated[str, AfterValidator(checks.username_or_none)] = Field(
        default="", max_length=200, description='Name for basic authentication; "" takes that of [operator].'
    )
    password: SecretStr | None = Field(
        default=None, description="Password for basic authentication. Never in this file. None takes [operator]'s."
    )

    @field_validator("url")
    @classmethod
    def _usable_url(cls, value: str, info: ValidationInfo) -> str:
        return value and checks.operator_url(value, plain_http=info.data.get("allow_plain_http", True))

    @field_validator("avs_name")
    @classmethod
    def _named(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.data.get("url"):
            raise ValueError(f"{NEEDED} with operator.direct.url")
        return value

    @field_validator("password")
    @classmethod
    def _usable_password(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            checks.password(value.get_secret_value())
        return value


class Operator(Section):
    """AltLayer's hosted operator, which signs and sends the answers."""

    api: Literal["proxy", "operator", "none"] = Field(
        default="proxy", description='The hosted API to send to; "none" observes only and answers nothing.'
    )
    allow_plain_http: bool = Field(
        default=False, description="Allow http:// to another machine, although the password travels in clear."
    )
    url: str = Field(
        default="",
        repr=False,
        examples=["http://127.0.0.1:8902"],
        description="The API's address. Required to send.",
    )
    ca_file: Annotated[str, AfterValidator(checks.file)] = Field(
        default="", max_length=4096, description="PEM file of the authorities to trust in place of the public ones."
    )
    method: Annotated[str, AfterValidator(checks.method)] = Field(
        default="", description='The contract\'s function that takes the answer; "" is that of the convention.'
    )
    avs_name: Annotated[str, AfterValidator(checks.one_line)] = Field(
        default="", max_length=200, description='The AVS as the API knows it. Required for api = "operator".'
    )
    username: Annotated[str, AfterValidator(checks.username)] = Field(
        default="admin", max_length=200, description="Name for basic authentication."
    )
    password: SecretStr | None = Field(
        default=None,
        description="Password for basic authentication. Never in this file. Required to send.",
    )
    concurrency: int = Field(
        default=32,
        ge=1,
        le=256,
        description="The most answers on their way at the same time. The daemon begins with 4 and follows the API: "
        "more while it keeps up, half as many when it replies 429 or 503, or not in time.",
    )
    timeout_s: Seconds = Field(default=60.0, le=3600, description="Total time for one request to the API.")
    retry_base_s: Seconds = Field(
        default=2.0, le=3600, description="Wait before the second attempt; doubled each time."
    )
    retry_max_s: Seconds = Field(default=60.0, le=86_400, description="The longest wait between two attempts.")
    resolve_after_blocks: int = Field(
        default=5,
        ge=1,
        le=10_000,
        description="Blocks after an accepted or unclear answer before the chain decides whether to send again.",
    )
    body_limit_bytes: int = Field(
        default=1 * MIB, ge=KIB, le=64 * MIB, description="The longest answer accepted from the API."
    )
    params_style: Literal["array", "object"] = Field(
        default="array", description="JSON-RPC params as an array with one object, or as the object itself."
    )
    expected_quorum_numbers: Annotated[tuple[int, ...], BeforeValidator(checks.quorum_numbers)] = Field(
        default=(),
        description="The quorums the proxy is configured with; tasks with others do not go to it. []: any.",
    )
    expected_threshold: int = Field(
        default=0,
        ge=0,
        le=100,
        description="The threshold the proxy is configured with, in percent; others do not go to it. 0: any.",
    )
    direct: Direct = Field(default={}, validate_default=True)
    failover: bool = Field(
        default=False, description="Send to [operator.direct] while the proxy refuses us or cannot be reached."
    )

    @field_validator("direct")
    @classmethod
    def _beside_the_proxy(cls, value: Direct, info: ValidationInfo) -> Direct:
        if value.url and info.data.get("api") == "operator":
            raise ValueError('stands beside the proxy: with operator.api = "operator" there is nothing for it to do')
        return value

    @field_validator("failover")
    @classmethod
    def _somewhere_else(cls, value: bool, info: ValidationInfo) -> bool:
        direct = info.data.get("direct")
        if value and direct is not None and not direct.url:
            raise ValueError("needs operator.direct.url, the API to go over to")
        return value

    @field_validator("url")
    @classmethod
    def _usable_url(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            return _unless_observing(value, info)
        return checks.operator_url(value, plain_http=info.data.get("allow_plain_http", True))

    @field_validator("avs_name")
    @classmethod
    def _named(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.data.get("api") == "operator" and _IS_SENDING.get():
            raise ValueError(f'{NEEDED} for operator.api = "operator"')
        return value

    @field_validator("password")
    @classmethod
    def _usable_password(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            _unless_observing(None, info, PASSWORD_NEEDED)
        else:
            checks.password(value.get_secret_value())
        return value

    @field_validator("retry_max_s")
    @classmethod
    def _at_least_base(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("retry_base_s", 0):
            raise ValueError("must not be less than operator.retry_base_s")
        return value


@contextmanager
def sending(is_sending: bool) -> Iterator[None]:
    """Check [operator] inside this block as that of a process that sends to the API, or does not."""
    token = _IS_SENDING.set(is_sending)
    try:
        yield
    finally:
        _IS_SENDING.reset(token)


def _unless_observing(value: T, info: ValidationInfo, message: str = NEEDED) -> T:
    if _IS_SENDING.get() and info.data.get("api") in ("proxy", "operator"):
        raise ValueError(message)
    return value
