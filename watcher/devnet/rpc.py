"""A small JSON-RPC client of the devnet."""

import json
from collections.abc import Sequence
from typing import Any

import aiohttp

from watcher.errors import RetryElsewhere

TIMEOUT_S = 30.0
BODY_LIMIT_BYTES = 256 * 1024 * 1024


class NodeError(RetryElsewhere):
    """The node replied with an error. `data` is the revert data, if any."""

    def __init__(self, method: str, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"the local chain refused {method}: {message[:500]} (code {code})")
        self.code, self.message, self.data = code, message, data


class Rpc:
    """Calls to one node. Each raises NodeError, or RetryElsewhere if there is no usable reply."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def call(self, method: str, *params: Any) -> Any:
        return _result(method, await self._post(_request(0, method, params)))

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Return the results of `calls`, each a method and its parameters, in order.

        Raises:
            RetryElsewhere: the chain cannot be reached, sent a malformed reply, or refused a call.
        """
        if not calls:
            return []
        replies = await self._post([_request(i, method, params) for i, (method, params) in enumerate(calls)])
        if not isinstance(replies, list) or len(replies) != len(calls):
            raise RetryElsewhere("the local chain sent a malformed reply to a batch")
        by_id = {reply["id"]: reply for reply in replies}
        return [_result(method, by_id[i]) for i, (method, _) in enumerate(calls)]

    async def _post(self, payload: Any) -> Any:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with self._session.post(self._url, json=payload, timeout=timeout) as response:
                body = await response.content.read(BODY_LIMIT_BYTES)
                while chunk := await response.content.read(BODY_LIMIT_BYTES):
                    body += chunk
                    if len(body) > BODY_LIMIT_BYTES:
                        raise RetryElsewhere(f"the local chain sent more than {BODY_LIMIT_BYTES} bytes")
            return json.loads(body)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise RetryElsewhere(f"the local chain cannot be reached: {type(error).__name__}") from error


def _request(number: int, method: str, params: Sequence[Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}


def _result(method: str, reply: Any) -> Any:
    if not isinstance(reply, dict) or ("result" not in reply and "error" not in reply):
        raise RetryElsewhere(f"the local chain sent a malformed reply to {method}")
    if error := reply.get("error"):
        raise NodeError(method, error.get("code", 0), str(error.get("message", "")), error.get("data"))
    return reply["result"]
