"""The hosted operator's dialect of JSON-RPC, after its public relatives.

Codes are small and not negative, every refusal is HTTP 400 or 404, the reply to a malformed body has id 0, and a
request without an id gets a reply too.
"""

import json
from dataclasses import dataclass
from typing import Any

from watcher import files
from watcher.devnet.aggregator import Declined
from watcher.devnet.faults import Answer

ZERO_HASH = "0x" + "00" * 32
_INT64 = 2**63
_UINT32 = 2**32


class BadRequest(Exception):
    """A refusal before any work: HTTP status, JSON-RPC code and text, and the id of the reply."""

    def __init__(self, status: int, code: int, text: str, request_id: int | str = 0) -> None:
        super().__init__(text)
        self.status, self.code, self.text, self.id = status, code, text, request_id


@dataclass(frozen=True, slots=True)
class Call:
    """A parsed request. `params` is the first element of the array, or the object itself; both styles are in use."""

    id: int | str
    method: str
    params: Any


def parse_call(body: bytes) -> Call:
    """Return the request of a body.

    Raises:
        BadRequest: it is none.
    """
    try:
        request = files.parse(body)
    except ValueError as error:
        raise BadRequest(400, 1, f"invalid character: {error}"[:200] if body else "EOF") from error
    if not isinstance(request, dict):
        raise BadRequest(400, 1, "json: cannot unmarshal array into Go value of type jsonrpc2.Request")
    request_id = request.get("id")
    if request_id is None:
        request_id = 0
    if isinstance(request_id, bool) or not isinstance(request_id, (int, str)) or not _is_int64(request_id):
        raise BadRequest(400, 1, "json: cannot unmarshal id")
    method = request.get("method")
    if not isinstance(method, str) or not method:
        raise BadRequest(400, 1, "jsonrpc2: missing method field", request_id)
    if "params" not in request:
        raise BadRequest(400, 1, "failed to unmarshal request.Params, error: EOF", request_id)
    params = request["params"]
    if isinstance(params, list):
        if not params:
            raise BadRequest(400, 3, "failed to unmarshal alert bundle params by no msg", request_id)
        params = params[0]
    return Call(request_id, method, params)


def _is_int64(value: int | str) -> bool:
    return isinstance(value, str) or -_INT64 <= value < _INT64


class Fields:
    """The fields of a request's object. Each method raises BadRequest with code 3 for another type."""

    def __init__(self, call: Call) -> None:
        self._call = call
        if not isinstance(call.params, dict):
            raise self._invalid("params is not an object")

    def uint32(self, name: str) -> int:
        value = self._call.params.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _UINT32:
            raise self._invalid(f"{name} is not a number that fits 32 bits")
        return value

    def hex_bytes(self, name: str, length: int | None = None) -> bytes:
        value = self._call.params.get(name)
        try:
            if not isinstance(value, str) or not value.startswith("0x"):
                raise ValueError
            decoded = bytes.fromhex(value[2:])
        except ValueError:
            raise self._invalid(f"{name} is not a hex string with 0x prefix") from None
        if length is not None and len(decoded) != length:
            raise self._invalid(f"{name} is not {length} bytes long")
        return decoded

    def text(self, name: str) -> str:
        value = self._call.params.get(name)
        if not isinstance(value, str) or not value:
            raise self._invalid(f"{name} is missing")
        return value

    def numbers(self, name: str) -> list[int]:
        value = self._call.params.get(name, [])
        if not isinstance(value, list) or not all(type(n) is int and 0 <= n < 256 for n in value):
            raise self._invalid(f"{name} is not a list of numbers below 256")
        return value

    def _invalid(self, reason: str) -> BadRequest:
        return BadRequest(400, 3, f"failed to unmarshal alert bundle params: {reason}", self._call.id)


def success(request_id: int | str, result: Any) -> Answer:
    return _answer(200, {"id": request_id, "result": result, "jsonrpc": "2.0"})


def refusal(error: BadRequest) -> Answer:
    fields = {"code": error.code, "message": error.text, "data": None}
    return _answer(error.status, {"id": error.id, "error": fields, "jsonrpc": "2.0"})


def declined(request_id: int | str, error: Declined, *, proxy: bool) -> Answer:
    """Return the reply to a declined request. The proxy drops the code and wraps the text."""
    code, text = error.code, error.text
    if proxy and code:
        code, text = 0, f"failed to call alert: create sig task failed: {text}"
    return refusal(BadRequest(400, code, text, request_id))


def _answer(status: int, body: dict[str, Any]) -> Answer:
    return Answer(status, json.dumps(body).encode() + b"\n")
