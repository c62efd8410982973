"""What a refusal of the hosted operator means, by HTTP status and by text. Pure.

The server behind the API answers nearly every trouble with HTTP 400 and a code that does not discriminate, so texts
decide. They are matched as substrings without regard to case, because each hop wraps the text of the one behind it.
"""

from collections.abc import Callable

from watcher.operator.words import WORDS_LIMIT_CHARS, clean
from watcher.task import Outcome, Refused, Unknown

# Somebody was faster, most often we ourselves in an earlier attempt: nothing more to send, the chain has the answer.
LOOK_AT_CHAIN = ("already finished", "already responded", "duplicate signature from operator")

# The next hop may well have taken the signature.
_AMBIGUOUS = ("not initialized or already completed", "could not send signed task response to aggregator")

# Wrong for every task alike.
_ENDPOINT = {
    "got unsupported method name": "this is the other API, or none: check [operator] api and url",
    "not found avs": "the API does not know this AVS: check [operator] avs_name and url",
    "not found chain id for avs": "the API does not know this AVS: check [operator] avs_name and url",
    "failed to found the avs config": "the API does not know this AVS: check [operator] avs_name and url",
}

# Wrong for this task until a person changes something. Still retried, because the table is no proof.
_STUBBORN = {
    "not part of task": "the operator was not registered in the task's quorum at the task's block",
    "incorrect signature": "the operator's registered key is not the one it signs with",
    "the quorum numbers is larger": "the quorum numbers are not configured at the API",
    "not found the method": "the API does not know [operator] method",
    "pack params": "the API's ABI of the contract differs from ours",
    "abi:": "the API's ABI of the contract differs from ours",
}
STUBBORN_MARK = "will not pass by itself: "

_METHOD_NOT_FOUND = -32601
_INTERNAL_ERROR = -32603

_ENDPOINT_STATUS = {
    401: "the API refuses the user name or the password: check [operator] username and its password",
    402: "the API asks for payment: check the account with AltLayer",
    403: "the API forbids it to us: check [operator] username, and that this host may use the API",
    404: "nothing is served there: check [operator] url and api",
    405: "that address takes no POST: check [operator] url",
    407: "a proxy in between wants credentials: check [operator] url and the network",
    410: "the API is gone from that address: check [operator] url",
}
_TASK_STATUS = {
    413: "the API finds the request too large",
    414: "the API finds the address too long: check [operator] url",
    425: "too early, the API asks to come back",
    429: "too many requests, the API asks to come back",
}
# A time-out, a conflict with something already there, a proxy that lost its client: the request may have got through.
_UNKNOWN_STATUS = frozenset({408, 409, 499})


def stubborn(outcome: Outcome) -> bool:
    """True for a refusal that repeating alone will hardly change: retry it rarely, and tell a person."""
    return isinstance(outcome, Refused) and outcome.words.startswith(STUBBORN_MARK)


def by_status(status: int, retry_after_s: float | None) -> Refused | None:
    """The refusals that the HTTP status alone makes certain, whatever the body says or however much of it arrived."""
    if 300 <= status < 400:
        words = f"HTTP {status}: redirects are not followed; set [operator] url to the final address"
        return Refused(words, endpoint=True, retry_after_s=retry_after_s)
    if status in _ENDPOINT_STATUS:
        return Refused(f"HTTP {status}: {_ENDPOINT_STATUS[status]}", endpoint=True, retry_after_s=retry_after_s)
    if status in _TASK_STATUS:
        return Refused(f"HTTP {status}: {_TASK_STATUS[status]}", retry_after_s=retry_after_s)
    return None


def leaves_open(status: int) -> bool:
    """True for a status after which nobody can say whether the request was accepted."""
    return status < 200 or status >= 500 or status in _UNKNOWN_STATUS


def by_error(code: int | None, message: str, retry_after_s: float | None, hide: Callable[[str], str]) -> Outcome:
    """What a JSON-RPC error says of our request, on an HTTP status that decides nothing by itself."""
    low = message.lower()
    words = clean(hide(message)) or "an error without words"
    if code == _INTERNAL_ERROR or any(text in low for text in _AMBIGUOUS):
        return Unknown(f"the API cannot say: {words}"[:WORDS_LIMIT_CHARS], retry_after_s)
    if code == _METHOD_NOT_FOUND:
        return Refused(_joined(_ENDPOINT["got unsupported method name"], words), code, True, retry_after_s)
    for text, advice in _ENDPOINT.items():
        if text in low:
            return Refused(_joined(advice, words), code, True, retry_after_s)
    for text, advice in _STUBBORN.items():
        if text in low:
            return Refused(_joined(STUBBORN_MARK + advice, words), code, retry_after_s=retry_after_s)
    return Refused(words, code, retry_after_s=retry_after_s)


def _joined(advice: str, words: str) -> str:
    return f"{advice}: {words}"[:WORDS_LIMIT_CHARS]
