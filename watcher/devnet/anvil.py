"""One anvil process: start, stop, kill, start again on the same port with the same chain."""

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
    """How the chain behaves.

    `mining`: seconds between blocks, "auto" (a block for each transaction) or "manual" (only `mine` makes blocks).
    `slots_in_epoch`: the safe head is so many blocks behind the head, the finalized one twice as many.
    `state_file`: kept across restarts; written on a clean stop, and every `state_interval_s` seconds if given.
    """

    mining: float | Literal["auto", "manual"] = 1.0
    slots_in_epoch: int = 2
    chain_id: int = 31337
    port: int = 0
    # Far above a real block, so that bulk tests are not shaped by it.
    gas_limit: int = 1_000_000_000
    state_file: Path | None = None
    state_interval_s: int | None = None

    def arguments(self, port: int) -> list[str]:
        given = ["--host", "127.0.0.1", "--port", str(port), "--chain-id", str(self.chain_id)]
        given += ["--slots-in-an-epoch", str(self.slots_in_epoch), "--gas-limit", str(self.gas_limit)]
        given += ["--no-request-size-limit"]
        if self.mining == "manual":
            given += ["--no-mining"]
        elif self.mining != "auto":
            given += ["--block-time", f"{self.mining:g}"]
        if self.state_file is not None:
            # Without the historical states a restarted chain knows its old blocks but cannot be asked about them.
            given += ["--state", str(self.state_file), "--preserve-historical-states"]
        if self.state_interval_s is not None:
            given += ["--state-interval", str(self.state_interval_s)]
        return given


def _tied_to_us() -> list[str]:
    """A prefix that has the kernel end the chain when we are killed and cannot do it ourselves. Linux only.

    It replaces itself by the chain, so that the process we hold is the chain's.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


class Anvil:
    """An async context manager around the process. HTTP and WebSocket share one port, known once it runs."""

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
        """Returns once it listens. Raises TryLater with anvil's own last words when it does not come up."""
        if self.running:
            return
        with self.log_file.open("ab") as log:
            begin = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *_tied_to_us(),
                str(self.binary),
                *self.options.arguments(self.port),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                # Ctrl-C in a terminal is for the program, which stops the chain after it has drained.
                start_new_session=True,
                # The file, not a pipe: a pipe nobody drains would stop the chain.
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
        """anvil says which port it got only on its standard output, hence the look into the file."""
        while True:
            output = self._output_since(begin)
            at = output.find(_LISTENING)
            end = output.find(b"\n", at)
            if at >= 0 and end >= 0:
                return int(output[at + len(_LISTENING) : end])
            if not self.running:
                words = (output.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
                raise TryLater(f"anvil ended at once: {words[:300]}; see {self.log_file}")
            await asyncio.sleep(0.01)

    def _output_since(self, begin: int) -> bytes:
        with self.log_file.open("rb") as log:
            log.seek(begin)
            return log.read(100_000)

    async def stop(self, *, kill: bool = False) -> None:
        """SIGTERM, which writes the state file; SIGKILL when asked for, or when it does not end in time."""
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
        """Down and up again on the same port. The chain goes on only if there is a `state_file`."""
        await self.stop(kill=kill)
        await self.start()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
