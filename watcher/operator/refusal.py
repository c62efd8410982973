"""The meaning of a refusal of the hosted operator, by HTTP status and by text. Pure.

The server behind the API replies to nearly every problem with HTTP 400 and one code, so the text decides. Texts are
matched as substrings in any case, because each hop wraps the text of the hop behind it.
"""

from collections.abc import Callable

from watcher.task import Outcome, Refused, Unknown
from watcher.text import one_line

# The longest reason that is kept in the ledger.
REASON_LIMIT_CHARS = 300

# The task has a response already, most often from our own earlier attempt: nothing is left to send, the chain decides.
LOOK_AT_CHAIN = ("already finished", "already responded", "duplicate signature from operator")

# The next hop may have taken the signature.
_AMBIGUOUS = ("not initialized or already completed", "could not send signed task response to aggregator")

# Refusals of every task.
_ENDPOINT = {
    "got unsupported method name": "another API is served there: check [operator] api and url",
    "not found avs": "the API does not know this AVS: check [operator] avs_name and url",
    "not found chain id for avs": "the API does not know this AVS: check [operator] avs_name and url",
    "failed to found the avs config": "the API does not know this AVS: check [operator] avs_name and url",
}

# Refusals of this task until a person changes something. They are retried, because this table proves nothing.
_STUBBORN = {
    "not part of task": "the operator was not registered in the task's quorum at the task's block",
    "incorrect signature": "the operator's registered key is not the one it signs with",
    "the quorum numbers is larger": "the quorum numbers are not configured at the API",
    "not found the method": "the API does not know [operator] method",
    "pack params": "the API's ABI of the contract differs from the convention's",
    "abi:": "the API's ABI of the contract differs from the convention's",
}
# The prefix of `error` on such tasks; `make_due` leaves them out by it.
STUBBORN_MARK = "needs a person: "

# JSON-RPC 2.0, section 5.1.
_METHOD_NOT_FOUND = -32601
_INTERNAL_ERROR = -32603

# RFC 9110, section 15.
_ENDPOINT_STATUS = {
    401: "the API refuses the user name or the password: check [operator] username and its password",
    402: "the API asks for payment: check the account with AltLayer",
    403: "the API forbids access: check [operator] username, and that this host may use the API",
    404: "nothing is served there: check [operator] url and api",
    405: "that address takes no POST: check [operator] url",
    407: "a proxy asks for credentials: check [operator] url and the network",
    410: "the API is gone from that address: check [operator] url",
}
_TASK_STATUS = {
    413: "the API refuses the request as too large",
    414: "the API refuses the address as too long: check [operator] url",
    425: "the API asks to try again later (too early)",
    429: "the API asks to try again later (too many requests)",
}
# A time-out, a conflict with an existing entry, a proxy that lost its client: the request may have got through.
_UNKNOWN_STATUS = frozenset({408, 409, 499})


def stubborn(outcome: Outcome) -> bool:
    """Return True for a refusal that only a person can end: retry it rarely."""
    return isinstance(outcome, Refused) and outcome.reason.startswith(STUBBORN_MARK)


def by_status(status: int, retry_after_s: float | None) -> Refused | None:
    """Return the refusal that the HTTP status alone proves, or None. The body does not matter, nor its end."""
    if 300 <= status < 400:
        reason = f"HTTP {status}: redirects are not followed; set [operator] url to the final address"
        return Refused(reason, endpoint=True, retry_after_s=retry_after_s)
    if status in _ENDPOINT_STATUS:
        return Refused(f"HTTP {status}: {_ENDPOINT_STATUS[status]}", endpoint=True, retry_after_s=retry_after_s)
    if status in _TASK_STATUS:
        return Refused(f"HTTP {status}: {_TASK_STATUS[status]}", retry_after_s=retry_after_s)
    return None


def leaves_open(status: int) -> bool:
    """Return True for a status that does not tell whether the request was accepted."""
    return status < 200 or status >= 500 or status in _UNKNOWN_STATUS


def by_error(code: int | None, message: str, retry_after_s: float | None, redact: Callable[[str], str]) -> Outcome:
    """Return the outcome that a JSON-RPC error stands for, under an HTTP status that decides nothing.

    Args:
        code: the error's code, if it has one.
        message: the error's text.
        retry_after_s: seconds the API asks to wait.
        redact: removes secrets from text of the API.
    """
    low = message.lower()
    reason = one_line(redact(message), REASON_LIMIT_CHARS) or "an error without text"
    if code == _INTERNAL_ERROR or any(text in low for text in _AMBIGUOUS):
        return Unknown(f"the API does not know the outcome: {reason}"[:REASON_LIMIT_CHARS], retry_after_s)
    if code == _METHOD_NOT_FOUND:
        return Refused(_join(_ENDPOINT["got unsupported method name"], reason), code, True, retry_after_s)
    for text, advice in _ENDPOINT.items():
        if text in low:
            return Refused(_join(advice, reason), code, True, retry_after_s)
    for text, advice in _STUBBORN.items():
        if text in low:
            return Refused(_join(STUBBORN_MARK + advice, reason), code, retry_after_s=retry_after_s)
    return Refused(reason, code, retry_after_s=retry_after_s)


def _join(advice: str, reason: str) -> str:
    return f"{advice}: {reason}"[:REASON_LIMIT_CHARS]
