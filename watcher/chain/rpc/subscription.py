"""The wake-up over WebSocket: a call of `wake` when the chain may have something new, with a hint and no data.

Data is read over HTTP, and the hint decides nothing but how many requests that takes; a dead socket costs latency and
nothing else. The `websockets` library is used directly: web3's provider would add signal handlers, retries of its own,
a bounded queue that stops the reader, and an iterator that ends in silence when the peer closes.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from loguru import logger
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from watcher import files
from watcher.backoff import doubled_s, spread_s
from watcher.chain.rpc import replies
from watcher.chain.rpc.bloom import Interest
from watcher.chain.rpc.calls import Emitters
from watcher.chain.rpc.errors import clean
from watcher.chain.rpc.poll import Pushed
from watcher.chain.rpc.transport import Url
from watcher.clock import Clock
from watcher.errors import RetryElsewhere
from watcher.once import Once

_BACK_OFF_FIRST_S = 0.5
_BACK_OFF_MAX_S = 60.0
# A connection that held this long was a good one: the next loss starts the back-off afresh.
_STEADY_S = 30.0
_SUBSCRIBE_TIMEOUT_S = 10.0

# The library's debug lines hold the request line, which may hold a key.
_MUTE = logging.Logger("watcher.chain.rpc.subscription", level=logging.CRITICAL + 1)


class _Lost(Exception):
    """The connection cannot be used any more."""


class _Connect(connect):
    """A connection that follows no redirect."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class Subscription:
    """One subscription, kept alive until it is cancelled. Nothing that the server does makes it raise."""

    def __init__(
        self,
        url: str,
        chain_id: int,
        address: Emitters | None,
        topics0: Sequence[bytes],
        wake: Callable[[Pushed | None], None],
        clock: Clock,
        random: Random,
        *,
        silence_s: float = 60.0,
        message_limit_bytes: int = 1024 * 1024,
    ) -> None:
        """Prepare the subscription.

        Args:
            url: a ws or wss URL.
            chain_id: the configured chain; the endpoint must serve it.
            address: the emitter of the logs, or several; None: heads alone are subscribed to.
            topics0: the first topics of the logs.
            wake: called on every message with the block that it names, None if it names none; must not block.
            clock: paces the reconnects.
            random: spreads them.
            silence_s: after so many seconds without a message the connection counts as lost.
            message_limit_bytes: the longest message.
        """
        self._url = Url(url)
        self._chain_id = chain_id
        self._subjects: list[list[Any]] = [["newHeads"]]
        if address is not None:
            self._subjects.append(["logs", _filter(address, topics0)])
        self._interest = Interest(address or (), topics0)
        self._wake = wake
        self._clock = clock
        self._random = random
        self._silence_s = silence_s
        self._message_limit_bytes = message_limit_bytes
        self._up, self._down = False, Once()

    @property
    def name(self) -> str:
        """The URL's scheme, host and port."""
        return self._url.origin

    async def run(self) -> None:
        """Connect, subscribe and wake; after a loss back off and start again."""
        failures = 0
        while True:
            began_s = self._clock.monotonic_s()
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001 - the subscription outlives anything a server can provoke
                reason = _reason(error)
            steady = self._up and self._clock.monotonic_s() - began_s >= _STEADY_S
            self._log_down(reason)
            failures = 1 if steady else failures + 1
            wait_s = doubled_s(failures, _BACK_OFF_FIRST_S, _BACK_OFF_MAX_S)
            await self._clock.sleep(spread_s(wait_s, self._random.random))

    async def trial(self) -> str | None:
        """Connect and subscribe once without a wake-up. Return None on success, else the reason."""
        try:
            async with self._subscribed():
                return None
        except Exception as error:  # noqa: BLE001 - as above
            return _reason(error)

    async def _listen(self) -> None:
        async with self._subscribed() as socket:
            logger.info("rpc.subscription_up: the wake-up connection is up", node=self._url.origin)
            self._up = True
            self._down.ends()
            # The chain may have moved before the connection was up, so a wake-up precedes the first message, too.
            self._wake(None)
            while True:
                async with asyncio.timeout(self._silence_s):
                    message = await socket.recv(decode=False)
                self._wake(_pushed(message, self._interest))

    @asynccontextmanager
    async def _subscribed(self) -> AsyncIterator[ClientConnection]:
        async with _Connect(
            self._url.whole(),
            proxy=None,
            compression=None,
            open_timeout=10,
            ping_interval=10,
            ping_timeout=10,
            close_timeout=2,
            max_size=self._message_limit_bytes,
            max_queue=64,
            logger=_MUTE,
        ) as socket:
            async with asyncio.timeout(_SUBSCRIBE_TIMEOUT_S):
                await self._subscribe(socket)
            yield socket

    async def _subscribe(self, socket: ClientConnection) -> None:
        served = await _request(socket, 1, "eth_chainId", [])
        if served.get("result") != hex(self._chain_id):
            raise _Lost(f"it does not serve chain {self._chain_id}")
        for number, params in enumerate(self._subjects, 2):
            answer = await _request(socket, number, "eth_subscribe", params)
            if not isinstance(answer.get("result"), str):
                raise _Lost(f"it refuses the subscription to {params[0]}")

    def _log_down(self, reason: str) -> None:
        if self._down.begins():
            logger.warning(
                "rpc.subscription_down: the wake-up connection is down; polling goes on",
                node=self._url.origin,
                reason=reason,
            )
        self._up = False


def _filter(address: Emitters, topics0: Sequence[bytes]) -> dict[str, Any]:
    """Return the filter of a subscription to logs."""
    return {
        "address": "0x" + address.hex()
        if isinstance(address, bytes)
        else ["0x" + emitter.hex() for emitter in address],
        "topics": [["0x" + topic.hex() for topic in topics0]],
    }


async def _request(socket: ClientConnection, number: int, method: str, params: list[Any]) -> dict[str, Any]:
    """Return the reply to one request; notifications before it are dropped."""
    await socket.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
    while True:
        try:
            answer = files.parse(await socket.recv(decode=False))
        except ValueError:
            raise _Lost("it does not speak JSON") from None
        if isinstance(answer, dict) and answer.get("id") == number:
            return answer


def _pushed(message: bytes, interest: Interest) -> Pushed | None:
    """Return the block that a notification of newHeads or logs names; None for any other, and for a removed log."""
    try:
        parsed = files.parse(message)
        block = parsed["params"]["result"]
        if block.get("removed"):
            return None
        is_log = "blockHash" in block
        number, block_hash = ("blockNumber", "blockHash") if is_log else ("number", "hash")
        bloom = 0 if is_log else int.from_bytes(replies.octets(block.get("logsBloom", "0x")))
        concerns = is_log or interest.may_be_in(bloom)
        return Pushed(replies.quantity(block[number]), replies.octets(block[block_hash], 32), concerns, bloom)
    except (ValueError, TypeError, LookupError, AttributeError, RetryElsewhere):
        return None  # the poll finds out what it was


def _reason(error: Exception) -> str:
    """Return the reason of a loss without the library's own text, which may hold the URL or data of the server."""
    if isinstance(error, _Lost):
        return str(error)
    if isinstance(error, TimeoutError):
        return "silent for too long"
    if isinstance(error, ConnectionClosed):
        close = error.rcvd
        return "closed" if close is None else f"closed by the other side ({close.code} {clean(close.reason)[:80]})"
    if isinstance(error, InvalidStatus):
        return f"HTTP {error.response.status_code} instead of a WebSocket"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return f"no usable WebSocket ({type(error).__name__})" if isinstance(error, WebSocketException) else "failed"
