"""The whole devnet in one object: chain, contract, operators, and the emulator of the hosted operator."""

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
    """`directory` receives the logs, the chain's state and the emulator's journal; None takes a temporary one.

    `persist` makes the chain survive a clean restart of anvil, `state_interval_s` a killed one too. `mining` and
    `slots_in_epoch` are explained at AnvilOptions: with 2 slots the finalized block is 4 blocks behind the head.
    The operators have equal stakes, so that thresholds are easy to reason about: of 3, 66 percent needs two.
    `upgradeable` puts the task manager behind a proxy, for `manager.upgrade`. `proxy_quorum_numbers` and
    `proxy_threshold` are explained at Aggregator: what the proxy API believes every task was made with.
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
    """`async with Devnet(options) as devnet:`. Raises what finding and starting anvil raise."""

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
        # anvil logs each call otherwise, and a test run makes hundreds of thousands.
        await self.chain.rpc.call("anvil_setLoggingEnabled", False)

    async def restart_chain(self, *, kill: bool = False) -> None:
        """The node goes away and comes back on its port; the emulator stays."""
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
        """The present one: an upgrade may change it."""
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
        """What a watcher needs besides the TOML: the secret that must not stand in it."""
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
        api_timeout_s: float = 60,
    ) -> str:
        """A ready watcher.toml for this devnet. The password is in `environment`, not here.

        `target` is the convention's example and `api` the one that serves the convention, unless told otherwise.
        """
        convention = self.convention
        api = api or convention.api
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
timeout_s = {hook_timeout_s:g}
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
        """Makes the tasks in as few blocks as possible and returns their indices.

        A message is the UTF-8 where the convention asks a text, and a big-endian number where it asks a number.
        """
        return await self.manager.create_tasks(messages, threshold, self.options.quorum_numbers)

    async def mine(self, blocks: int = 1) -> int:
        return await self.chain.mine(blocks)


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are a subset of TOML's."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
