"""The chain as a replica shows it that has not seen the newest blocks yet, or that keeps the newest states alone."""

from collections.abc import Awaitable, Callable
from typing import Any

Item = dict[str, Any]
Post = Callable[[Any], Awaitable[Any]]
_OF_STATE = frozenset({"eth_call", "eth_getCode", "eth_getStorageAt"})


class Sight:
    """The node behind `post`, as it was `behind_blocks` blocks ago. Blocks of a tag follow the head as anvil's do."""

    def __init__(self, post: Post, behind_blocks: int, slots: int) -> None:
        self._post, self._behind, self._slots = post, behind_blocks, slots
        self._changed = False

    async def answers(self, asked: list[Item], *, geth: bool) -> tuple[list[Item], bool]:
        """The answers, and whether any of them differs from what the node itself would have said.

        `geth`: logs beyond the head are an empty list, as geth has it; otherwise an error, as anvil has it.
        """
        head = int((await self._post(_call("eth_blockNumber")))["result"], 16)
        top = max(1, head - self._behind)
        return [await self._answer(request, top, geth) for request in asked], self._changed

    async def _answer(self, request: Item, top: int, geth: bool) -> Item:
        method, params = request["method"], list(request.get("params") or [])
        if method == "eth_blockNumber":
            return self._reply(request, hex(top))
        if method == "eth_getBlockByNumber":
            number = self._number(params[0], top)
            if number > top:
                return self._reply(request, None)
            params[0] = hex(number)
        elif method == "eth_getLogs" and int(params[0]["toBlock"], 16) > top:
            if not geth:
                return self._refused(request, -32602, "BlockOutOfRange")
            if int(params[0]["fromBlock"], 16) > top:
                return self._reply(request, [])
            params[0] = params[0] | {"toBlock": hex(top)}
            self._changed = True
        elif method == "eth_call" and await self._unseen(params[1], top):
            return self._refused(request, -32000, "header not found")
        answer: Item = await self._post(request | {"params": params})
        receipt = answer.get("result") if method == "eth_getTransactionReceipt" else None
        return self._reply(request, None) if receipt and int(receipt["blockNumber"], 16) > top else answer

    def _number(self, which: str, top: int) -> int:
        below = {"latest": 0, "pending": 0, "safe": self._slots, "finalized": 2 * self._slots}
        if which not in below:
            return int(which, 16)
        self._changed = True
        return max(0, top - below[which])

    async def _unseen(self, pin: Any, top: int) -> bool:
        if not isinstance(pin, dict) or "blockHash" not in pin:
            return False
        block = (await self._post(_call("eth_getBlockByHash", pin["blockHash"], False))).get("result")
        return block is None or int(block["number"], 16) > top

    def _reply(self, request: Item, result: Any) -> Item:
        self._changed = True
        return {"jsonrpc": "2.0", "id": request["id"], "result": result}

    def _refused(self, request: Item, code: int, message: str) -> Item:
        self._changed = True
        return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": message}}


async def without_old_state(post: Post, asked: list[Item], kept_blocks: int) -> tuple[list[Item], bool]:
    """The node's answers, without those that need the state of a block more than `kept_blocks` below its head."""
    answers: list[Item] = await post(asked)
    head = int((await post(_call("eth_blockNumber")))["result"], 16)
    is_changed = False
    for place, question in enumerate(asked):
        pin = question["params"][-1] if question["method"] in _OF_STATE else None
        if isinstance(pin, dict) and "blockHash" in pin:
            block = (await post(_call("eth_getBlockByHash", pin["blockHash"], False))).get("result")
            if block is not None and int(block["number"], 16) < head - kept_blocks:
                error = {"code": -32000, "message": f"missing trie node {pin['blockHash'][2:]} (path ) not found"}
                answers[place] = {"jsonrpc": "2.0", "id": question["id"], "error": error}
                is_changed = True
    return answers, is_changed


def _call(method: str, *params: Any) -> Item:
    return {"jsonrpc": "2.0", "id": 0, "method": method, "params": list(params)}
