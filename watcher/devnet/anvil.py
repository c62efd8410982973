"""One anvil process: start, stop, kill, restart on the same port with the same chain."""

import asyncio
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from watcher.errors import TryLater

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
_LISTENING = b"Listening on 127.0.0.1:"


@dataclass(frozen=True, slots=True)
class AnvilOptions:
    """The options of a chain.

    Attributes:
        mining: seconds between blocks, "auto" (a block for each transaction) or "manual" (only `mine` makes blocks).
        slots_in_epoch: the safe block is this many blocks behind the head, the finalized one twice as many.
        chain_id: the chain's id.
        port: the TCP port; 0: any free one.
        gas_limit: the gas of a block.
        state_file: the chain's state across restarts, written on a clean stop; None: it is lost.
        state_interval_s: write the state also at this interval, in seconds; None: do not.
    """

    mining: float | Literal["auto", "manual"] = 1.0
    slots_in_epoch: int = 2
    chain_id: int = 31337
    port: int = 0
    # Far above that of a real block, so that it does not limit bulk tests.
    gas_limit: int = 1_000_000_000
    state_file: Path | None = None
    state_interval_s: int | None = None

    def arguments(self, port: int) -> list[str]:
        arguments = ["--host", "127.0.0.1", "--port", str(port), "--chain-id", str(self.chain_id)]
        arguments += ["--slots-in-an-epoch", str(self.slots_in_epoch), "--gas-limit", str(self.gas_limit)]
        arguments += ["--no-request-size-limit"]
        if self.mining == "manual":
            arguments += ["--no-mining"]
        elif self.mining != "auto":
            arguments += ["--block-time", f"{self.mining:g}"]
        if self.state_file is not None:
            # Without the historical states a restarted chain has its old blocks, but no state of them.
            arguments += ["--state", str(self.state_file), "--preserve-historical-states"]
        if self.state_interval_s is not None:
            arguments += ["--state-interval", str(self.state_interval_s)]
        return arguments


def _die_with_parent() -> list[str]:
    """Return a command prefix with which the kernel ends the chain when this process is killed. Linux only.

    The prefix execs the chain, so the child process is the chain's.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


class Anvil:
    """An anvil process, as an async context manager. HTTP and WebSocket share one port, known once it runs."""

    def __init__(self, binary: Path, options: AnvilOptions, log_file: Path) -> None:
        self.binary, self.options, self.log_file = binary, options, log_file
        self.port = options.port
        self._process: asyncio.subprocess.Process | None = None

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start anvil, and return once it listens.

        Raises:
            TryLater: it does not start; shows its last line of output.
        """
        if self.running:
            return
        with self.log_file.open("ab") as log:
            begin = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *_die_with_parent(),
                str(self.binary),
                *self.options.arguments(self.port),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                # Ctrl-C in a terminal goes to the program, which stops the chain after it has drained.
                start_new_session=True,
                # A file and not a pipe: a full pipe would block the chain.
                env={**os.environ, "NO_COLOR": "1"},
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                self.port = await self._listening_port(begin)
        except TimeoutError:
            await self.stop(kill=True)
            raise TryLater(f"anvil did not start within {START_TIMEOUT_S:g} s; see {self.log_file}") from None
        except BaseException:
            await self.stop(kill=True)
            raise

    async def _listening_port(self, begin: int) -> int:
        """Wait until anvil prints its port to its output file, and return it."""
        while True:
            output = self._output_since(begin)
            at = output.find(_LISTENING)
            end = output.find(b"\n", at)
            if at >= 0 and end >= 0:
                return int(output[at + len(_LISTENING) : end])
            if not self.running:
                lines = output.decode(errors="replace").strip().splitlines() or ["no message"]
                raise TryLater(f"anvil ended at once: {lines[-1][:300]}; see {self.log_file}")
            await asyncio.sleep(0.01)

    def _output_since(self, begin: int) -> bytes:
        with self.log_file.open("rb") as log:
            log.seek(begin)
            return log.read(100_000)

    async def stop(self, *, kill: bool = False) -> None:
        """Stop anvil with SIGTERM, which writes the state file; with SIGKILL if `kill`, or when time is up."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def restart(self, *, kill: bool = False) -> None:
        """Stop and start on the same port. The chain continues only with a `state_file`."""
        await self.stop(kill=kill)
        await self.start()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
