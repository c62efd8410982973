"""The shortest way from a log to a POST: a WebSocket, no library for Ethereum, nothing stored and nothing checked."""

import asyncio
import hashlib
import json
import os

import aiohttp
import websockets


def request_body(log: dict[str, object]) -> dict[str, object]:
    """Return the API's request for a log; the data are decoded by hand (Solidity ABI, one dynamic tuple)."""
    data, topics = bytes.fromhex(str(log["data"])[2:]), log["topics"]
    tuple_at = int.from_bytes(data[:32], "big")
    message_at = tuple_at + int.from_bytes(data[tuple_at + 64 : tuple_at + 96], "big")
    size = int.from_bytes(data[message_at : message_at + 32], "big")
    message = data[message_at + 32 : message_at + 32 + size]
    index = int(topics[1], 16)  # type: ignore[index]
    params = {
        "method": "respondToTask",
        "task_created_block": int.from_bytes(data[tuple_at : tuple_at + 32], "big"),
        "message": "0x" + message.hex(),
        "task_index": index,
        "resp_message": "0x" + hashlib.sha256(message).hexdigest(),
    }
    return {"jsonrpc": "2.0", "id": index, "method": "operator_createSigTaskResponse", "params": [params]}


async def main() -> None:
    """Subscribe, and POST an answer for each log as it comes."""
    auth = aiohttp.BasicAuth(os.environ["BENCH_USERNAME"], os.environ["BENCH_PASSWORD"])
    async with aiohttp.ClientSession(auth=auth) as session, websockets.connect(os.environ["BENCH_WS_URL"]) as node:
        filters = {"address": os.environ["BENCH_ADDRESS"], "topics": [os.environ["BENCH_TOPIC"]]}
        await node.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["logs", filters]}))
        await node.recv()

        async def post(log: dict[str, object]) -> None:
            async with session.post(os.environ["BENCH_API_URL"], json=request_body(log)) as response:
                await response.read()

        async with asyncio.TaskGroup() as posts:
            async for message in node:
                posts.create_task(post(json.loads(message)["params"]["result"]))


if __name__ == "__main__":
    asyncio.run(main())
