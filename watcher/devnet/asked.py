"""A task of a person's own shape on a running devnet, and its way to an answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from watcher.devnet.chain import Chain
from watcher.devnet.config_file import DevnetPlace
from watcher.devnet.contract import Answered
from watcher.devnet.conventions import CONVENTIONS, Convention
from watcher.devnet.rpc import NodeError, Rpc
from watcher.devnet.tasks import TaskManager, roles_of
from watcher.errors import FixUsage, RetryElsewhere, TryLater
from watcher.redact import show_url

MESSAGE_LIMIT_BYTES = 100_000
_POLL_S = 0.2
_QUORUM_NUMBERS = b"\x00"


@dataclass(frozen=True, slots=True)
class Created:
    """A task that was created, and its place on the chain."""

    index: int
    block_number: int
    tx_hash: str


def fitting_message(convention: Convention, message: bytes) -> bytes:
    """Return a message as the convention's contract takes it.

    Raises:
        FixUsage: the contract has no task with such a message.
    """
    if len(message) > MESSAGE_LIMIT_BYTES:
        raise FixUsage(f"the message has {len(message):,} bytes; the devnet takes {MESSAGE_LIMIT_BYTES:,}")
    if convention.content == "string":
        try:
            message.decode()
        except UnicodeDecodeError:
            raise FixUsage(
                f"a task of {convention.name} asks with a text, and these bytes are not UTF-8: use --abi string TEXT"
            ) from None
    try:
        return convention.word(message)
    except ValueError as error:
        raise FixUsage(f"a task of {convention.name} asks with one uint256: {error}") from None


@asynccontextmanager
async def running_devnet(place: DevnetPlace) -> AsyncIterator[TaskManager]:
    """Give the task manager of a running devnet.

    Raises:
        RetryElsewhere: no devnet answers there, or its chain is another one.
    """
    where = show_url(place.rpc_url)
    convention = CONVENTIONS.get(place.convention)  # type: ignore[call-overload]
    if convention is None:
        raise RetryElsewhere(f"the devnet plays {', '.join(CONVENTIONS)}, and not {place.convention}")
    async with aiohttp.ClientSession(trust_env=False) as session:
        chain = Chain(Rpc(session, place.rpc_url))
        try:
            version = str(await chain.rpc.call("web3_clientVersion"))
            if "anvil" not in version.lower():
                raise RetryElsewhere(f"{where} is no devnet, so nothing is sent to it; run `watcher devnet`")
            code = await chain.rpc.call("eth_getCode", place.task_manager, "latest")
        except NodeError:
            raise RetryElsewhere(f"{where} is no devnet; run `watcher devnet`") from None
        except RetryElsewhere as error:
            if "no devnet" in str(error):
                raise
            raise RetryElsewhere(
                f"no devnet runs at {where}; start it with `watcher devnet` in another terminal"
            ) from None
        if not isinstance(code, str) or len(code) <= len("0x"):
            raise RetryElsewhere(f"the devnet at {where} has no task manager {place.task_manager}; is it another one?")
        yield TaskManager(chain, await roles_of(chain), place.task_manager, 0, convention)


async def create(manager: TaskManager, message: bytes, threshold: int) -> Created:
    """Create one task and wait until it is mined.

    Raises:
        FixUsage: the contract refuses it.
        RetryElsewhere: the devnet does not answer.
    """
    receipt = await manager.send_task(fitting_message(manager.convention, message), threshold, _QUORUM_NUMBERS)
    index = int(receipt["logs"][0]["topics"][1], 16)
    return Created(index, int(receipt["blockNumber"], 16), receipt["transactionHash"])


async def answer_to(manager: TaskManager, index: int, timeout_s: float) -> Answered:
    """Wait for the response to a task.

    Raises:
        TryLater: there is none within `timeout_s` seconds.
        RetryElsewhere: the devnet does not answer.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                for answer in await manager.answers():
                    if answer.index == index:
                        return answer
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise TryLater(
            f"task {index} has no response after {timeout_s:g} s; does `watcher run` answer this devnet? "
            f"`watcher explain {index}` says what it waits for"
        ) from None
