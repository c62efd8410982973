"""A small JSON-RPC client for the devnet's own use."""

import json
from collections.abc import Sequence
from typing import Any

import aiohttp

from watcher.errors import RetryElsewhere

TIMEOUT_S = 30.0
BODY_LIMIT_BYTES = 256 * 1024 * 1024


class NodeError(RetryElsewhere):
    """The node answered with an error. `data` holds revert data where there is some."""

    def __init__(self, method: str, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"the local chain refused {method}: {message[:500]} (code {code})")
        self.code, self.message, self.data = code, message, data


class Rpc:
    """Calls to one node. Raises NodeError, or RetryElsewhere when there is no usable answer."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def call(self, method: str, *params: Any) -> Any:
        return _result(method, await self._post(_request(0, method, params)))

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """The results in order; the first error is raised."""
        if not calls:
            return []
        answers = await self._post([_request(i, method, params) for i, (method, params) in enumerate(calls)])
        if not isinstance(answers, list) or len(answers) != len(calls):
            raise RetryElsewhere("the local chain answered a batch with something else")
        by_id = {answer["id"]: answer for answer in answers}
        return [_result(method, by_id[i]) for i, (method, _) in enumerate(calls)]

    async def _post(self, payload: Any) -> Any:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with self._session.post(self._url, json=payload, timeout=timeout) as response:
                body = await response.content.read(BODY_LIMIT_BYTES)
                while chunk := await response.content.read(BODY_LIMIT_BYTES):
                    body += chunk
                    if len(body) > BODY_LIMIT_BYTES:
                        raise RetryElsewhere(f"the local chain answered with more than {BODY_LIMIT_BYTES} bytes")
            return json.loads(body)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise RetryElsewhere(f"the local chain gave no answer: {type(error).__name__}") from error


def _request(number: int, method: str, params: Sequence[Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}


def _result(method: str, answer: Any) -> Any:
    if not isinstance(answer, dict) or ("result" not in answer and "error" not in answer):
        raise RetryElsewhere(f"the local chain answered {method} with something else")
    if error := answer.get("error"):
        raise NodeError(method, error.get("code", 0), str(error.get("message", "")), error.get("data"))
    return answer["result"]
