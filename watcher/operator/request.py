"""The two requests of AltLayer's hosted operator API, as bytes. Pure.

The proxy API (`operator_createSigTaskResponse`) takes the payload and builds the call itself; the operator API
(`operator_createSigTask`) takes the ABI-encoded call and the digest to sign.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from watcher.task import Accepted, Call, Outcome, Task

PROXY_METHOD = "operator_createSigTaskResponse"
OPERATOR_METHOD = "operator_createSigTask"
# No server knows it, so asking for it changes nothing anywhere.
PROBE_METHOD = "watcher_probe"

# The API's page shows an array with one object; releases from before that convention take the object alone.
ParamsStyle = Literal["array", "object"]


@dataclass(frozen=True, slots=True)
class Request:
    """One JSON-RPC body, ready to send.

    `digest` is the SHA-256 of the body without its `id` member, so that every attempt to send the same answer carries
    the same digest, whatever its id: at one API, under one configuration, two digests for one task are two different
    answers. `request_id` is positive, since servers answer what they could not read with id 0. `sig_hash` is what the
    API has to sign for it, empty where nobody compares.
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
    """`operator_createSigTaskResponse`. `method` is the contract's respond function, such as `respondToTask`."""
    params = {
        "method": method,
        "task_created_block": task.created_block,
        "message": _hex(task.message),
        "task_index": task.task_index,
        "resp_message": _hex(resp_message),
    }
    return _request(PROXY_METHOD, params, request_id, params_style, sig_hash)


def operator_request(
    call: Call, *, avs_name: str, request_id: int, method: str = "", params_style: ParamsStyle = "array"
) -> Request:
    """`operator_createSigTask`. `method` stands in for the call's own where the API knows the function by another."""
    params = {
        "avs_name": avs_name,
        "method": method or call.method,
        "params_raw": _hex(call.params_raw),
        "reference_block_number": call.reference_block,
        "quorum_numbers": list(call.quorum_numbers),
        "quorum_threshold_percentages": list(call.quorum_thresholds),
        "sig_hash": _hex(call.sig_hash),
    }
    return _request(OPERATOR_METHOD, params, request_id, params_style, call.sig_hash)


def disagreement(request: Request, outcome: Outcome) -> str | None:
    """What the API signed should be the digest of our answer; if not, it may be working on another task."""
    if not isinstance(outcome, Accepted) or outcome.sig_hash is None or not request.sig_hash:
        return None
    if outcome.sig_hash == request.sig_hash:
        return None
    return f"the API signed {_hex(outcome.sig_hash)}, the digest of our answer is {_hex(request.sig_hash)}"


def probe_request(request_id: int) -> Request:
    """A request for a method nobody has: a healthy endpoint refuses it by name, and does nothing."""
    return _request(PROBE_METHOD, {}, request_id, "array")


def _request(
    rpc_method: str, params: dict[str, Any], request_id: int, style: ParamsStyle, sig_hash: bytes = b""
) -> Request:
    call = _json({"jsonrpc": "2.0", "method": rpc_method, "params": [params] if style == "array" else params})
    # The id is a string of digits, as on the API's page; the server gives it back as it got it.
    body = b'{"id":"%d",' % request_id + call[1:]
    return Request(body, request_id, hashlib.sha256(call).digest(), sig_hash)


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
