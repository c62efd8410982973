"""A listener on web3.py's subscription manager: decodes with the contract's ABI, answers, stores nothing."""

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import aiohttp
from web3 import AsyncWeb3, WebSocketProvider
from web3.utils.subscriptions import LogsSubscription, LogsSubscriptionContext


def request_body(args: Any) -> dict[str, object]:
    """Return the API's request for the arguments of an event."""
    task, index = args["task"], args["taskIndex"]
    params = {
        "method": "respondToTask",
        "task_created_block": task["taskCreatedBlock"],
        "message": "0x" + task["message"].hex(),
        "task_index": index,
        "resp_message": "0x" + hashlib.sha256(task["message"]).hexdigest(),
    }
    return {"jsonrpc": "2.0", "id": index, "method": "operator_createSigTaskResponse", "params": [params]}


async def main() -> None:
    """Subscribe, and POST an answer for each log as it comes."""
    abi = json.loads(Path(os.environ["BENCH_ABI"]).read_text())
    auth = aiohttp.BasicAuth(os.environ["BENCH_USERNAME"], os.environ["BENCH_PASSWORD"])
    async with (
        aiohttp.ClientSession(auth=auth) as session,
        AsyncWeb3(WebSocketProvider(os.environ["BENCH_WS_URL"])) as w3,
        asyncio.TaskGroup() as posts,
    ):
        address = w3.to_checksum_address(os.environ["BENCH_ADDRESS"])
        event = w3.eth.contract(address=address, abi=abi).events.NewTaskCreated()

        async def post(body: dict[str, object]) -> None:
            async with session.post(os.environ["BENCH_API_URL"], json=body) as response:
                await response.read()

        async def handle(context: LogsSubscriptionContext) -> None:
            posts.create_task(post(request_body(event.process_log(context.result)["args"])))

        await w3.subscription_manager.subscribe(LogsSubscription(address=address, topics=[event.topic], handler=handle))
        await w3.subscription_manager.handle_subscriptions(run_forever=True)


if __name__ == "__main__":
    asyncio.run(main())
