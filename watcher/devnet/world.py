"""The devnet in one object: chain, contract, operators, and the emulator of the hosted operator."""

import secrets
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import aiohttp

from watcher.devnet.aggregator import Aggregator
from watcher.devnet.anvil import Anvil, AnvilOptions
from watcher.devnet.anvil_binary import find_anvil
from watcher.devnet.chain import Chain
from watcher.devnet.conventions import CONVENTIONS, Convention, Name
from watcher.devnet.hosted import HostedOperator
from watcher.devnet.journal import Journal
from watcher.devnet.operators import Operators
from watcher.devnet.rpc import Rpc
from watcher.devnet.tasks import TaskManager, deploy, roles_of


@dataclass(frozen=True, slots=True)
class DevnetOptions:
    """The options of a devnet. The operators have equal stakes: of 3, a threshold of 66 percent needs two.

    Attributes:
        anvil: the binary; None: search for one.
        directory: where logs, the chain's state and the emulator's journal go; None: a temporary one.
        mining: see AnvilOptions.
        slots_in_epoch: see AnvilOptions; with 2 the finalized block is 4 blocks behind the head.
        persist: the chain survives a clean restart of anvil.
        state_interval_s: it also survives a kill, up to this many seconds back.
        convention: the convention of the task manager.
        upgradeable: the task manager is behind a proxy, for `manager.upgrade`.
        window_blocks: the response window.
        proxy_quorum_numbers: see Aggregator.
        proxy_threshold: see Aggregator.
        confirmations: the chain.confirmations of `Devnet.toml`.
        seed: of the random faults.
    """

    anvil: Path | None = None
    directory: Path | None = None
    mining: float | Literal["auto", "manual"] = 1.0
    slots_in_epoch: int = 2
    chain_id: int = 31337
    persist: bool = True
    state_interval_s: int | None = None
    convention: Name = "wizard"
    upgradeable: bool = False
    window_blocks: int = 100
    operators: int = 3
    quorum_numbers: bytes = b"\x00"
    proxy_quorum_numbers: bytes | None = None
    proxy_threshold: int | None = None
    confirmations: int = 2
    rpc_port: int = 0
    api_port: int = 0
    username: str = "admin"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)
    seed: int = 0


class Devnet:
    """A devnet, as an async context manager: `async with Devnet(options) as devnet:`.

    Entering raises the errors of `find_anvil` and `Anvil.start`.
    """

    anvil: Anvil
    chain: Chain
    manager: TaskManager
    operators: Operators
    journal: Journal
    aggregator: Aggregator
    hosted: HostedOperator
    directory: Path

    def __init__(self, options: DevnetOptions | None = None) -> None:
        self.options = options or DevnetOptions()
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        try:
            await self._start_chain()
            await self._start_emulator()
        except BaseException:
            await self.stop()
            raise

    async def _start_chain(self) -> None:
        o, stack = self.options, self._stack
        self.directory = o.directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="devnet-")))
        self.directory.mkdir(parents=True, exist_ok=True)
        anvil_options = AnvilOptions(
            mining=o.mining,
            slots_in_epoch=o.slots_in_epoch,
            chain_id=o.chain_id,
            port=o.rpc_port,
            state_file=self.directory / "chain.json" if o.persist else None,
            state_interval_s=o.state_interval_s,
        )
        self.anvil = Anvil(await find_anvil(o.anvil), anvil_options, self.directory / "anvil.log")
        await stack.enter_async_context(self.anvil)
        session = await stack.enter_async_context(aiohttp.ClientSession(trust_env=False))
        self.chain = Chain(Rpc(session, self.anvil.http_url), impatient=True)
        await self._quiet()
        roles, convention = await roles_of(self.chain), CONVENTIONS[o.convention]
        self.manager = await deploy(self.chain, roles, o.window_blocks, convention, upgradeable=o.upgradeable)
        names = [f"devnet operator {number}" for number in range(o.operators)]
        self.operators = Operators([await self.manager.register(name, 100, o.quorum_numbers) for name in names])
        self.chain.impatient = o.mining == "manual"

    async def _quiet(self) -> None:
        # anvil would log each of the hundreds of thousands of calls of a test run.
        await self.chain.rpc.call("anvil_setLoggingEnabled", False)

    async def restart_chain(self, *, kill: bool = False) -> None:
        """Restart the node on its port; the emulator keeps running."""
        await self.anvil.restart(kill=kill)
        await self._quiet()

    async def _start_emulator(self) -> None:
        o, stack = self.options, self._stack
        self.journal = Journal(self.directory / "hosted-operator.jsonl")
        stack.callback(self.journal.close)
        self.aggregator = Aggregator(self.manager, self.operators, self.journal)
        self.aggregator.proxy_quorum_numbers = o.proxy_quorum_numbers
        self.aggregator.proxy_threshold = o.proxy_threshold
        self.aggregator.start()
        stack.push_async_callback(self.aggregator.close)
        self.hosted = HostedOperator(self.aggregator, self.journal, o.username, o.password, seed=o.seed)
        self.hosted.port = o.api_port
        stack.push_async_callback(self.hosted.stop)
        await self.hosted.start()

    async def stop(self) -> None:
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def convention(self) -> Convention:
        """Return the convention now: an upgrade may change it."""
        return self.manager.convention

    @property
    def rpc_url(self) -> str:
        return self.anvil.http_url

    @property
    def ws_url(self) -> str:
        return self.anvil.ws_url

    @property
    def api_url(self) -> str:
        return self.hosted.url

    @property
    def chain_id(self) -> int:
        return self.options.chain_id

    @property
    def task_manager(self) -> str:
        return self.manager.address

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the variables a watcher needs beside the TOML: the password, which must not be in the file."""
        return {"WATCHER_OPERATOR__PASSWORD": self.options.password}

    def toml(
        self,
        *,
        target: str | None = None,
        app_dir: str = ".",
        ledger_url: str = "sqlite:///watcher.db",
        listen: str = "",
        api: Literal["proxy", "operator", "none"] | None = None,
        hook_timeout_s: float = 30,
        message: str = "",
        response: str = "",
        api_timeout_s: float = 60,
    ) -> str:
        """Return a complete watcher.toml for this devnet; the password is in `environment`.

        Args:
            target: the hook; None: the convention's example.
            app_dir: the folder of the hook.
            ledger_url: the ledger.
            listen: the address of health and metrics; "": none.
            api: the operator API; None: the one that serves the convention.
            hook_timeout_s: the limit of a hook's run, in seconds.
            message: the ABI types of hook.message; "": none.
            response: those of hook.response.
            api_timeout_s: the limit of a request, in seconds.
        """
        convention = self.convention
        api = api or convention.api
        types = {"message": message, "response": response}.items()
        type_lines = "".join(f"{name} = {_quoted(text)}\n" for name, text in types if text)
        avs_name = 'avs_name = "devnet"\n' if api == "operator" else ""
        return f"""\
[chain]
rpc_urls = ["{self.rpc_url}", "{self.ws_url}"]
chain_id = {self.chain_id}
confirmations = {self.options.confirmations}
finality = "finalized"

[task_manager]
address = "{self.task_manager}"
start_block = {self.manager.deployed_block}
convention = "{convention.name}"

[hook]
target = {_quoted(target or convention.hook)}
app_dir = {_quoted(app_dir)}
{type_lines}timeout_s = {hook_timeout_s:g}
workers = 2

[operator]
api = "{api}"
url = "{self.api_url}"
method = "{convention.respond}"
{avs_name}username = {_quoted(self.options.username)}
concurrency = 4
timeout_s = {api_timeout_s:g}

[ledger]
url = {_quoted(ledger_url)}

[http]
listen = {_quoted(listen)}
"""

    async def create_tasks(self, messages: Sequence[bytes], threshold: int = 66) -> list[int]:
        """Create tasks in as few blocks as possible and return their indices.

        A message is UTF-8 if the convention's content is a text, and a big-endian number if it is a number.
        """
        return await self.manager.create_tasks(messages, threshold, self.options.quorum_numbers)

    async def mine(self, blocks: int = 1) -> int:
        return await self.chain.mine(blocks)


def _quoted(text: str) -> str:
    """Return a TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
