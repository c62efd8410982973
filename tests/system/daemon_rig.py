"""A devnet in the test's loop, the watcher as a real process beside it, and typed questions to both.

async with running_rig(tmp_path) as rig:
    daemon = await rig.start()                      # READY has come over a real notification socket
    indices = await rig.create(3)
    await rig.until(lambda: rig.all_in("accepted"), "all accepted")
    await rig.settle()                              # mines until every task has ended
    assert await daemon.stop() == 0
    await rig.verify()                              # chain, emulator's journal, hook's notes and proof agree
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from rich.progress import Progress

from tests.system.daemon_process import Daemon, Done, launch, run_command
from tests.system.ledger_reading import LedgerReading
from watcher.cli import options
from watcher.cli.bare_ledger import OpenLedger
from watcher.cli.explain import tell_stories
from watcher.cli.prove import prove_now
from watcher.devnet.journal import read_journal
from watcher.devnet.world import Devnet, DevnetOptions
from watcher.ledger import queries
from watcher.operator.request import PROBE_METHOD
from watcher.report.listing import task_fields
from watcher.report.story import Story
from watcher.settings.load import load
from watcher.settings.model import Settings
from watcher.state import ENDED

__all__ = ["Daemon", "Done", "Rig", "free_port", "running_rig"]

HOOK = Path(__file__).with_name("rig_hook.py")

# Quick where the defaults are for real networks. A test may override any of them, or the rest of the settings.
QUICK = {
    "WATCHER_CHAIN__POLL_INTERVAL_S": "0.1",
    "WATCHER_CHAIN__REQUEST_TIMEOUT_S": "5",
    "WATCHER_OPERATOR__RETRY_BASE_S": "0.1",
    "WATCHER_OPERATOR__RETRY_MAX_S": "0.5",
    "WATCHER_OPERATOR__RESOLVE_AFTER_BLOCKS": "3",
    "WATCHER_HOOK__RETRY_BASE_S": "0.1",
}
POLL_S = 0.02
START_TIMEOUT_S = 30.0


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Rig(LedgerReading):
    """`folder` holds everything: watcher.toml, the ledger, the hook, the log, the devnet's files."""

    def __init__(self, net: Devnet, folder: Path, stack: AsyncExitStack, hook: str, **toml: Any) -> None:
        self.net, self.folder = net, folder
        self.config = folder / "watcher.toml"
        self.ledger = folder / "watcher.db"
        self.log = folder / "daemon.log"
        self.hook_folder = folder / "hook"
        basics = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONFAULTHANDLER": "1"}
        self.environment = {**basics, **QUICK, **net.environment}
        self._stack = stack
        self._numbers = 1
        self._daemons: list[Daemon] = []
        self.hook_folder.mkdir()
        shutil.copy(HOOK, self.hook_folder)
        self.write_config(target=f"rig_hook:{hook}", **toml)

    def write_config(self, *, changes: Mapping[str, str] | None = None, **toml: Any) -> None:
        """`toml` goes to Devnet.toml; `changes` replaces text in what comes out of it."""
        options = {"app_dir": str(self.hook_folder), "ledger_url": f"sqlite:///{self.ledger}"} | toml
        text = self.net.toml(**options)
        for old, new in (changes or {}).items():
            assert old in text, f"{old!r} is not in the configuration"
            text = text.replace(old, new)
        self.config.write_text(text)

    # -- processes ---------------------------------------------------------------------------------------------------

    async def start(
        self,
        *arguments: str,
        ready: bool = True,
        own_interpreter: bool = False,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        **more: str,
    ) -> Daemon:
        """Start `watcher run`, and return when it has sent READY, or at once with `ready=False`.

        `log`: a file of its own, where several daemons run.
        """
        variables = {**self.environment, **(environment or {}), **more}
        command = ["--config", str(self.config), *arguments]
        daemon = await launch(command, variables, log or self.log, own_interpreter=own_interpreter)
        self._daemons.append(daemon)
        self._stack.push_async_callback(daemon.reap)
        if ready:
            await self.until(
                lambda: "READY=1" in daemon.notices() or not daemon.running,
                "the daemon is ready",
                timeout_s=START_TIMEOUT_S,
            )
            assert daemon.running or "READY=1" in daemon.notices(), f"the daemon ended at once:\n{daemon.log[-4000:]}"
        return daemon

    async def command(
        self, *arguments: str, timeout_s: float = 60, environment: Mapping[str, str] | None = None, **more: str
    ) -> Done:
        """Any other `watcher ...`, to its end. `--config` is added."""
        variables = {**self.environment, **(environment or {}), **more}
        return await run_command([*arguments, "--config", str(self.config)], variables, self.folder, timeout_s)

    async def tasks(self) -> list[dict[str, Any]]:
        """What `watcher tasks list --json` prints, without the price of a process."""
        with options.ledger(self._settings()) as (reader, source_id):
            return list(map(task_fields, reader.stream(queries.list_tasks, source_id, None)))

    async def explain(self, index: int, listen: str = "") -> Story:
        """What `watcher explain` tells of a task, without the price of a process; `listen` as the daemon has it."""

        def tell() -> Story:
            settings = load(self.config, {}, {**self.environment, "WATCHER_HTTP__LISTEN": listen})
            with options.ledger(settings) as (reader, source_id):
                return tell_stories(OpenLedger(reader, source_id, settings), index)[0]

        return await asyncio.to_thread(tell)

    async def prove(self) -> dict[str, Any]:
        """What `watcher prove --json` prints, without the price of a process."""
        return (await prove_now(self._settings(), Progress(disable=True))).as_json()

    def _settings(self) -> Settings:
        return load(self.config, {"operator.api": "none"}, self.environment)

    # -- the world ---------------------------------------------------------------------------------------------------

    def messages(self, count: int) -> list[bytes]:
        """Messages no task of this rig has had yet."""
        first, self._numbers = self._numbers, self._numbers + count
        return [number.to_bytes(32, "big") for number in range(first, first + count)]

    async def create(self, count: int = 1) -> list[int]:
        """Makes tasks with messages of their own, and their indices."""
        return await self.net.create_tasks(self.messages(count))

    async def until(self, condition: Callable[[], bool], what: str, *, timeout_s: float = 30.0) -> None:
        """Waits for a condition on the outside world."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline_s:
                raise AssertionError(f"not within {timeout_s:g} s: {what}\n{self.story()}")
            await asyncio.sleep(POLL_S)

    async def dump_stacks(self) -> None:
        """Have each running daemon write the stacks of its threads into its log, and print that; they end by it."""
        for daemon in self._daemons:
            if daemon.running:
                daemon.send(signal.SIGABRT)
                with suppress(AssertionError):
                    await daemon.wait(timeout_s=5)
                print(daemon.log[-8000:])

    async def caught_up(self) -> None:
        """Waits until the ledger has read up to the head."""
        head = await self.net.chain.head()
        await self.until(lambda: self.cursor() >= head, f"block {head} is read")

    async def settle(self, *, timeout_s: float = 60.0, as_read: bool = False) -> None:
        """Makes blocks until the ledger holds every task of the chain and each has ended.

        With `as_read`, a block comes once the daemon has read the one before: where it is slowed down, its deadlines
        are, too, and only `timeout_s` is the machine's time.
        """
        deadline_s = time.monotonic() + timeout_s
        count = await self.net.manager.count()
        while not (len(now := self.states()) >= count and all(state in ENDED for state in now.values())):
            assert time.monotonic() < deadline_s, f"not settled within {timeout_s:g} s\n{self.story()}"
            if not as_read or self.cursor() >= await self.net.chain.head():
                await self.net.mine()
            await asyncio.sleep(0.1)

    @asynccontextmanager
    async def mining(self, every_s: float) -> AsyncIterator[None]:
        """Blocks come by themselves inside this block, where the devnet mines by hand."""

        async def mine() -> None:
            while True:
                await asyncio.sleep(every_s)
                await self.net.mine()

        miner = asyncio.create_task(mine())
        try:
            yield
        finally:
            miner.cancel()
            await asyncio.gather(miner, return_exceptions=True)

    # -- the evidence ------------------------------------------------------------------------------------------------

    def journal(self) -> list[dict[str, Any]]:
        """What the emulator has written down: received, answered, sent, mined, note."""
        return list(read_journal(self.net.journal.path))

    def received(self) -> list[dict[str, Any]]:
        """Every authorised request to the emulator but mere probes, as it was written down before it was answered."""
        got = (entry for entry in self.journal() if entry["what"] == "received" and entry["authorised"])
        return [request for request in got if request.get("method") != PROBE_METHOD]

    def in_pool(self) -> int:
        """How many transactions the emulator has sent so far; the first block after that holds them."""
        return sum(entry["what"] == "sent" for entry in self.journal())

    def sent(self) -> dict[tuple[int, int, str], set[str]]:
        """(index, created block, message) -> every different answer the emulator was ever asked to sign for it."""
        sent: defaultdict[tuple[int, int, str], set[str]] = defaultdict(set)
        for request in self.received():
            params = json.loads(request["body"])["params"][0]
            sent[int(params["task_index"]), int(params["task_created_block"]), params["message"]].add(
                params["resp_message"]
            )
        return dict(sent)

    def hook_answers(self) -> dict[tuple[int, str], list[str]]:
        """(index, task hash) -> every answer the hook ever gave for it, in order. Hex with 0x."""
        answers: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
        notes = self.hook_folder / "said"
        for line in notes.read_text().splitlines() if notes.exists() else []:
            index, task_hash, answer = line.split()
            answers[int(index), "0x" + task_hash].append("0x" + answer)
        return dict(answers)

    async def verify(self, *, state: str = "final") -> list[dict[str, Any]]:
        """The four witnesses agree: chain, emulator's journal, hook's notes, ledger. Returns the canonical tasks.

        Every canonical task is in `state`; the chain shows exactly one response to each that is final, with the bytes
        the hook gave for that very task; never were two different answers sent for one task; the proof is whole.
        """
        proof, listed = await asyncio.gather(self.prove(), self.tasks())
        assert proof["ok"], proof
        assert (proof["missing"], proof["mismatched"]) == ([], []), proof
        tasks = [task for task in listed if task["canonical"]]
        assert [task["task_index"] for task in tasks] == list(range(await self.net.manager.count()))
        assert {task["state"] for task in tasks} <= {state}, self.story()
        hook_answers, sent = self.hook_answers(), self.sent()
        assert not {key: answers for key, answers in sent.items() if len(answers) > 1}, "two answers for one task"
        on_chain: defaultdict[int, list[str]] = defaultdict(list)
        for response in await self.net.manager.answers():
            on_chain[response.index].append("0x" + response.message.hex())
        for task in tasks:
            index, key = task["task_index"], (task["task_index"], task["task_created_block"], task["message"])
            if task["state"] in ("final", "responded"):
                assert on_chain[index] == [task["response"]], f"task {index}: {on_chain[index]}"
                assert task["response"] in hook_answers[index, task["task_hash"]], (
                    f"task {index}: not what the hook answered"
                )
                assert sent[key] == {task["response"]}, f"task {index}: {sent[key]}"
        return tasks

    def story(self) -> str:
        """What a person needs to see when a test fails."""
        counts: defaultdict[str, int] = defaultdict(int)
        for state in self.states().values():
            counts[state] += 1
        tail = self.log.read_text(errors="replace")[-5000:] if self.log.exists() else ""
        first_states = dict(list(self.states().items())[:30])
        ends = [daemon.process.returncode for daemon in self._daemons]
        return (
            f"cursor {self.cursor()}, states {dict(counts)}, first {first_states}, "
            f"daemons' exit codes {ends} (None: running)\n"
            f"--- end of the daemon's log\n{tail}"
        )


@asynccontextmanager
async def running_rig(
    folder: Path, *, hook: str = "dice", toml: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[Rig]:
    """A rig whose devnet mines by hand with fast finality (head minus 2), unless `options` (DevnetOptions) say else.

    `hook` is one of `square`, `dice`, `gated`, `patient`; `toml` goes to Devnet.toml.
    """
    options_of_net: dict[str, Any] = {
        "mining": "manual",
        "slots_in_epoch": 1,
        "confirmations": 1,
        "persist": False,
    } | options
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(Devnet(DevnetOptions(directory=folder / "devnet", **options_of_net)))
        rig = Rig(net, folder, stack, hook, **(toml or {}))
        try:
            yield rig
        except AssertionError:
            await rig.dump_stacks()
            raise
