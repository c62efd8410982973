"""What the answer to a request for an unknown method tells about an endpoint. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from watcher.operator import reply
from watcher.operator.answer import parse
from watcher.operator.words import clean
from watcher.task import Refused, Unknown

_NO_SUCH_METHOD = -32601


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether the API is there and takes our credentials, and the words for a person."""

    ok: bool
    words: str
    http_status: int | None
    duration_ms: int


def judge(
    http_status: int, headers: Mapping[str, str], body: bytes, request_id: int, hide: Callable[[str], str]
) -> tuple[bool, str]:
    """Verdict and words. A JSON-RPC error, with HTTP 404 as well, is the good case: it answered, and did nothing."""
    answer = reply.read(body, request_id)
    if isinstance(answer, reply.Failure) and answer.code == _NO_SUCH_METHOD:
        # The operator API's own codes are small and never negative.
        return False, "it speaks JSON-RPC and is not the operator API (perhaps a node): check [operator] url"
    if isinstance(answer, reply.Failure) and http_status in (200, 400, 404):
        return True, f"reachable and authorised (it says: {clean(hide(answer.message), 120)})"
    if isinstance(answer, reply.Success):
        return False, "it answers a method that does not exist with a result, so it is not the operator API: check url"
    match parse(http_status, headers, body, request_id, hide=hide):
        case Refused(words=words) | Unknown(why=words):
            return False, words
        case _:
            return False, f"HTTP {http_status}, which is no answer to a probe: check [operator] url"
