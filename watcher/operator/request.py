"""The two requests of AltLayer's hosted operator API, as bytes. Pure.

The proxy API (`operator_createSigTaskResponse`) takes the answer and builds the contract call from it. The operator API
(`operator_createSigTask`) takes the ABI-encoded call and the digest to sign.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from watcher.task import Accepted, Call, Outcome, Task
from watcher.text import to_hex

PROXY_METHOD = "operator_createSigTaskResponse"
OPERATOR_METHOD = "operator_createSigTask"
# A method that no server has, so a request for it has no effect.
PROBE_METHOD = "watcher_probe"

_ENCODER = msgspec.json.Encoder()
_DELETE = b"\x7f"  # the one character of ASCII that msgspec leaves as it is, and `json` escapes

# The API's page shows an array with one object; older releases take the object alone.
ParamsStyle = Literal["array", "object"]


@dataclass(frozen=True, slots=True)
class Request:
    """One JSON-RPC body, ready to send.

    `digest` is the SHA-256 of the body without its `id` member: every attempt to send one answer to one API under one
    configuration has the same digest, and two digests for one task mean two answers. `request_id` is positive, because
    servers reply with id 0 to a body they could not read. `sig_hash` is the digest (32 bytes) that the API has to sign;
    empty: not compared.
    """

    body: bytes
    request_id: int
    digest: bytes
    sig_hash: bytes = b""


def proxy_request(
    task: Task,
    resp_message: bytes,
    *,
    method: str,
    request_id: int,
    params_style: ParamsStyle = "array",
    sig_hash: bytes = b"",
) -> Request:
    """Return an `operator_createSigTaskResponse` request.

    Args:
        task: the task that is answered.
        resp_message: the answer of the hook.
        method: the contract's respond function, such as `respondToTask`.
        request_id: a positive number, returned in the reply.
        params_style: how the API takes its parameters.
        sig_hash: the digest that the API has to sign; empty: not compared.
    """
    params = {
        "method": method,
        "task_created_block": task.created_block,
        "message": to_hex(task.message),
        "task_index": task.task_index,
        "resp_message": to_hex(resp_message),
    }
    return _request(PROXY_METHOD, params, request_id, params_style, sig_hash)


def operator_request(
    call: Call, *, avs_name: str, request_id: int, method: str = "", params_style: ParamsStyle = "array"
) -> Request:
    """Return an `operator_createSigTask` request.

    Args:
        call: the contract call and the digest to sign.
        avs_name: the AVS as the API knows it.
        request_id: a positive number, returned in the reply.
        method: the API's name of the respond function, if it differs from the call's.
        params_style: how the API takes its parameters.
    """
    params = {
        "avs_name": avs_name,
        "method": method or call.method,
        "params_raw": to_hex(call.params_raw),
        "reference_block_number": call.reference_block,
        "quorum_numbers": list(call.quorum_numbers),
        "quorum_threshold_percentages": list(call.quorum_thresholds),
        "sig_hash": to_hex(call.sig_hash),
    }
    return _request(OPERATOR_METHOD, params, request_id, params_style, call.sig_hash)


def disagreement(request: Request, outcome: Outcome) -> str | None:
    """Return a warning if the API signed another digest than the answer's, else None.

    The API may then work on another task.
    """
    if not isinstance(outcome, Accepted) or outcome.sig_hash is None or not request.sig_hash:
        return None
    if outcome.sig_hash == request.sig_hash:
        return None
    return f"the API signed {to_hex(outcome.sig_hash)}, the digest of our answer is {to_hex(request.sig_hash)}"


def probe_request(request_id: int) -> Request:
    """Return a request for a method that no server has: a healthy API refuses it and does nothing."""
    return _request(PROBE_METHOD, {}, request_id, "array")


def _request(
    rpc_method: str, params: dict[str, Any], request_id: int, style: ParamsStyle, sig_hash: bytes = b""
) -> Request:
    call = _json({"jsonrpc": "2.0", "method": rpc_method, "params": [params] if style == "array" else params})
    # The id is a string of digits, as on the API's page; the server returns it unchanged.
    body = b'{"id":"%d",' % request_id + call[1:]
    return Request(body, request_id, hashlib.sha256(call).digest(), sig_hash)


def _json(value: dict[str, Any]) -> bytes:
    """Return a value as `json` writes it, because a digest must be the same in every version.

    msgspec writes the same in a tenth of the time, except what is beyond printable ASCII and numbers of more than 64
    bits.
    """
    try:
        data = _ENCODER.encode(value)
    except (OverflowError, UnicodeEncodeError):
        data = _DELETE
    if data.isascii() and _DELETE not in data:
        return data
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
