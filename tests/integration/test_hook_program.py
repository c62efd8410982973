"""Programs as hooks (`exec:`): a fault costs the task that it met, and every program starts clean and ends with all."""

import asyncio
import contextlib
import os
import select
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from watcher.errors import AttemptFailed, FixConfiguration, TryLater
from watcher.hook.output import Log
from watcher.hook.plan import PoolPlan
from watcher.hook.runner import Runner, open_runner
from watcher.task import Later, Response, Skip, Task
from watcher.testing import make_task

PROGRAM = r"""#!/usr/bin/env python3
import json, os, signal, subprocess, sys, time

requests, replies = open(3), open(4, "w")
def send(text): replies.write(text + "\n"); replies.flush()
def reply(**fields): send(json.dumps({"version": 1, "id": ID, **fields}))
def answer(data): reply(verdict="answer", response="0x" + data.hex())

def echo(rest): answer(rest.encode())
def pid(_): answer(str(os.getpid()).encode())
def skip(_): reply(verdict="skip", reason="not ours\x1b[2J")
def later(_): reply(verdict="later", blocks=3, seconds=1.5, reason="soon")
def failed(_): reply(verdict="failed", reason="no price")
def prints(_): print("out\x1b[31m"); print("err", file=sys.stderr); sys.stdout.flush(); answer(b"")
def floods(_):
    for _ in range(100): print("y" * 100_000)
    answer(b"")
def empty_lines(_): send("\n\n"); answer(b"x"); send("")
def environment(_): answer(json.dumps(dict(os.environ)).encode())
def folder(_): answer(os.getcwd().encode())
def descriptors(_):
    names = {int(fd): os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd") if int(fd) < 64 and
             os.path.lexists("/proc/self/fd/" + fd)}
    answer(json.dumps(sorted(names)).encode())
def reads(rest): answer(open(rest, "rb").read())
def bits(rest): answer(str(signal.getsignal(signal.SIGPIPE)).encode())
def allocates(_): bytearray(1 << 30); answer(b"")

def exits(_): sys.exit(3)
def quiet_exit(_): sys.exit(0)
def raises(_): raise ValueError("bad")
def killed(_): os.kill(os.getpid(), signal.SIGKILL)
def sleeps(_): print("begun", flush=True); time.sleep(600)
def closes(_): os.close(4); time.sleep(600)
def garbage(_): send("nonsense")
def binary(_): os.write(4, b"\xff\x00" * 99 + b"\n")
def deep(_): send("[" * 100_000)
def endless(_):
    while True: os.write(4, b"x" * 65536)
def endless_lines(_):
    while True: os.write(4, b"\n" * 65536)
def other_id(_): send('{"id":"0","verdict":"answer","response":"0x00"}')
def twice(_):
    line = json.dumps({"version": 1, "id": ID, "verdict": "answer", "response": "0x" + b"x".hex()})
    send(line + "\n" + line)
def number(_): reply(verdict="answer", response=5)
def no_hex(_): reply(verdict="answer", response="0xzz")
def no_verdict(_): reply()
def huge(_): reply(verdict="answer", response="0x" + "00" * 200_000)
def dies_later(_): answer(b"x"); os._exit(1)
def closes_requests(_): os.close(3); answer(b"x"); time.sleep(600)
def forks_and_exits(_):
    child = subprocess.Popen(["sleep", "600"], close_fds=False, start_new_session=True)
    print("child", child.pid, flush=True)
    os._exit(4)
def leaves_a_child(_): answer(str(subprocess.Popen(["sleep", "600"], start_new_session=True).pid).encode())

for line in requests:
    request = json.loads(line)
    ID = request["id"]
    name, _, rest = bytes.fromhex(request["task"]["message"][2:]).decode().partition(" ")
    globals()[name](rest)
"""

# What the program does, and what the failed attempt says. Those of the first list leave the program running.
FAILURES = [
    ("failed", "the hook failed: no price"),
    ("number", 'the "response" of the hook\'s reply is not text'),
    ("no_hex", "two hex digits for each byte"),
    ("no_verdict", 'the "verdict" of the hook\'s reply is not one of'),
    ("huge", "returned 200,000 bytes; the limit is 131,072"),
]
CRASHES = [
    ("exits", "the program ended with exit code 3"),
    ("quiet_exit", "the program ended with exit code 0"),
    ("raises", "the program ended with exit code 1"),
    ("killed", "the program was killed by SIGKILL"),
    ("closes", "the program closed its requests or replies and was killed"),
    ("garbage", "reply is not JSON"),
    ("binary", "reply is not JSON"),
    ("deep", "more than 10,000 values"),
    ("endless", "reply is longer than"),
    ("other_id", "does not have the id of its request"),
    ("forks_and_exits", "the program ended with exit code 4"),
    ("sleeps", "took longer than timeout_s = 4 s and was killed"),
    ("endless_lines", "took longer than timeout_s = 4 s and was killed"),
]
TARGET = "exec:./program.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    return tmp_path


@contextlib.asynccontextmanager
async def opened(
    folder: Path, plan: PoolPlan | None = None, target: str = TARGET, log: Log | None = None
) -> AsyncIterator[Runner]:
    async with open_runner(target, plan or PoolPlan(workers=1, timeout_s=20), app_dir=folder, log=log) as runner:
        yield runner


async def answer(runner: Runner, message: str) -> str:
    response = await runner.run(make_task(message.encode()))
    assert isinstance(response, Response)
    return response.resp_message.decode()


async def failure(runner: Runner, message: str) -> str:
    with pytest.raises(AttemptFailed) as caught:
        await runner.run(make_task(message.encode()))
    assert str(caught.value).isprintable()
    return str(caught.value)


async def ends(pid: int) -> None:
    """Return once the process has ended, at once if it has no entry any more."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            gone = asyncio.Event()
            asyncio.get_running_loop().add_reader(pidfd, gone.set)
            async with asyncio.timeout(10):
                await gone.wait()
        finally:
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)


async def test_program_answers_task_after_task(folder: Path) -> None:
    async with opened(folder) as runner:
        process = await answer(runner, "pid")
        for i in range(20):
            assert await answer(runner, f"echo {i}") == str(i)
        assert await runner.run(make_task(b"skip")) == Skip("not ours\\x1b[2J")
        assert await runner.run(make_task(b"later")) == Later(blocks=3, seconds=1.5, reason="soon")
        assert await answer(runner, "empty_lines") == "x"
        assert await answer(runner, "pid") == process


async def test_failed_verdict_leaves_the_program_running(folder: Path) -> None:
    async with opened(folder) as runner:
        process = await answer(runner, "pid")
        for fault, message in FAILURES:
            assert message in await failure(runner, fault), fault
        assert await answer(runner, "pid") == process


async def test_program_that_breaks_costs_only_the_task_it_ran(folder: Path) -> None:
    async with opened(folder, PoolPlan(workers=2, timeout_s=4)) as runner:
        others = [asyncio.create_task(answer(runner, f"echo {i}")) for i in range(40)]
        faults = {fault: asyncio.create_task(failure(runner, fault)) for fault, _ in CRASHES}
        others += [asyncio.create_task(answer(runner, f"echo {i}")) for i in range(40, 80)]
        assert await asyncio.gather(*others) == [str(i) for i in range(80)]
        for fault, message in CRASHES:
            assert message in await faults[fault], fault


def ended(pid: int) -> bool:
    """Return True once a process has ended, whether or not its parent has noticed; False after 30 s."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 30)[0])
    finally:
        os.close(process)


@pytest.mark.parametrize("fault", ["twice", "dies_later", "closes_requests"])
async def test_program_out_of_step_between_tasks_is_restarted(folder: Path, fault: str) -> None:
    async with opened(folder) as runner:
        process = await answer(runner, "pid")
        assert await answer(runner, fault) == "x"
        assert await answer(runner, "echo next") == "next"
        assert await answer(runner, "pid") != process


async def test_program_that_ends_after_each_task_costs_no_attempt(folder: Path) -> None:
    async with opened(folder) as runner:
        assert await asyncio.gather(*(answer(runner, "dies_later") for _ in range(4))) == ["x"] * 4


async def test_output_is_logged_and_never_mixes_with_replies(folder: Path) -> None:
    lines: list[tuple[Task | None, str]] = []
    async with opened(folder, log=lambda task, line: lines.append((task, line))) as runner:
        await answer(runner, "prints")
        await answer(runner, "floods")
    task = make_task(b"prints")
    assert (task, "out\\x1b[31m") in lines and (task, "err") in lines
    assert "more bytes of output are not shown" in lines[-1][1]


async def test_program_gets_nothing_of_the_daemon(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHER_OPERATOR__PASSWORD", "canary")
    async with opened(folder) as runner:
        environment = await answer(runner, "environment")
        assert "canary" not in environment
        assert '"HOOK_REQUEST_FD": "3"' in environment and '"HOOK_REPLY_FD": "4"' in environment
        assert await answer(runner, "folder") == str(folder)
        assert await answer(runner, "descriptors") == "[0, 1, 2, 3, 4]"


async def test_sandbox_and_memory_limit_hold_for_programs(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("secrets") / "password"
    secret.write_text("canary")
    plan = PoolPlan(workers=1, timeout_s=20, hidden=(str(secret),), memory_mb=300)
    async with opened(folder, plan) as runner:
        assert "ended with exit code 1" in await failure(runner, "allocates")
        if not runner.exposed:  # the kernel has Landlock
            assert "ended with exit code 1" in await failure(runner, f"reads {secret}")


async def test_no_process_outlives_its_worker(folder: Path) -> None:
    lines: list[str] = []
    async with opened(folder, log=lambda _, line: lines.append(line)) as runner:
        assert "exit code 4" in await failure(runner, "forks_and_exits")
        await ends(int(next(line for line in lines if line.startswith("child ")).split()[1]))
        process, child = int(await answer(runner, "pid")), int(await answer(runner, "leaves_a_child"))
    await ends(process)
    await ends(child)


async def test_program_ends_when_its_daemon_is_killed(folder: Path) -> None:
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _DAEMON, str(folder), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert daemon.stdout is not None
    process = int(await asyncio.wait_for(daemon.stdout.readline(), 20))
    daemon.send_signal(signal.SIGKILL)
    await daemon.wait()
    await ends(process)


_DAEMON = """
import asyncio, sys
from watcher.hook.plan import PoolPlan
from watcher.hook.runner import open_runner
from watcher.testing import make_task

async def main():
    async with open_runner("exec:./program.py", PoolPlan(workers=1), app_dir=sys.argv[1]) as runner:
        print((await runner.run(make_task(b"pid"))).resp_message.decode(), flush=True)
        await runner.run(make_task(b"sleeps"))

asyncio.run(main())
"""


async def test_cancelling_a_run_kills_its_program(folder: Path) -> None:
    begun = asyncio.Event()
    async with opened(folder, log=lambda _task, line: begun.set() if line == "begun" else None) as runner:
        process = int(await answer(runner, "pid"))
        run = asyncio.create_task(runner.run(make_task(b"sleeps")))
        await asyncio.wait_for(begun.wait(), 10)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        await ends(process)
        assert await answer(runner, "echo next") == "next"


async def test_version_covers_the_program_its_scripts_and_its_arguments(folder: Path) -> None:
    versions = set()
    for text, target in [("", TARGET), ("#", TARGET), ("", "exec:./program.py -v"), ("", "exec:python3 program.py")]:
        (folder / "program.py").write_text(PROGRAM + text)
        async with opened(folder, target=target) as runner:
            versions.add(runner.version)
            response = await runner.run(make_task(b"echo x"))
            assert isinstance(response, Response) and response.hook_version == runner.version
    assert len(versions) == 4
    assert {version.partition("@")[0] for version in versions} == {"exec:program.py", "exec:python3 program.py"}


async def test_version_covers_the_modules_beside_a_script_in_its_folder(folder: Path) -> None:
    for name in ("src/lib", "src/node_modules/x"):
        (folder / name).mkdir(parents=True)
    (folder / "src" / "main.py").write_text(PROGRAM)
    versions: list[str] = []
    for name in ("src/lib/rates.py", "src/lib/rates.py", "src/node_modules/x/index.js", "notes.py"):
        (folder / name).write_text(f"# {len(versions)}")
        async with opened(folder, target="exec:python3 src/main.py") as runner:
            versions.append(runner.version)
    assert len(set(versions)) == 2 and versions[1] == versions[2] == versions[3]
    assert versions[0].partition("@")[0] == "exec:python3 main.py"


async def test_edited_program_is_reported_and_taken_over_by_reload(folder: Path) -> None:
    async with opened(folder, target="exec:python3 program.py") as runner:
        assert await answer(runner, "echo x") == "x"
        assert await runner.changed_files() == ""
        (folder / "program.py").write_text(PROGRAM.replace("answer(rest.encode())", "answer(b'new ' + rest.encode())"))
        assert await runner.changed_files() == "program.py"
        assert await answer(runner, "echo x") == "x"  # the loaded code goes on
        await failure(runner, "exits")
        with pytest.raises(TryLater, match="changed since it was loaded"):
            await runner.run(make_task(b"echo x"))
        before, after = await runner.reload()
        assert before != after
        assert await answer(runner, "echo x") == "new x"


async def test_file_that_changes_while_the_program_starts_answers_no_task(folder: Path) -> None:
    async with opened(folder) as runner:
        (folder / "program.py").write_text(PROGRAM + "#")
        with pytest.raises(TryLater, match="loaded changed code during a run"):
            await runner.run(make_task(b"echo x"))


async def test_restart_within_a_worker_does_not_take_over_an_edit(folder: Path) -> None:
    async with opened(folder) as runner:
        process = await answer(runner, "pid")
        assert await answer(runner, "dies_later") == "x"
        assert await asyncio.to_thread(ended, int(process))
        (folder / "program.py").write_text(PROGRAM + "#")
        with pytest.raises(TryLater, match="loaded changed code during a run"):
            await runner.run(make_task(b"echo x"))


PROBLEMS = [
    ("exec:", "names no program"),
    ("exec:'./program.py", "quotation mark is not closed"),
    ("exec:./missing.py", r"there is no program ./missing.py \(looked in "),
    ("exec:program.py", r"no program program.py on the PATH; for the file in hook.app_dir write ./program.py"),
    ("exec:no-such-program-anywhere", "no program no-such-program-anywhere on the PATH"),
    ("exec:.", "there is no program"),
    ("exec:./plain.txt", r"cannot execute ./plain.txt; correct it with chmod \+x"),
    ("exec:./no_interpreter", "the interpreter of its first line"),
    ("exec:./no_format", "Exec format error"),
    ("exec:/bin/true", "it must wait for tasks, and the program ended with exit code 0 before the first"),
    ("exec:/bin/sh -c 'kill -9 $$'", "the program was killed by SIGKILL before the first"),
]


@pytest.mark.parametrize(("target", "message"), PROBLEMS)
async def test_program_that_cannot_run_is_refused(folder: Path, target: str, message: str) -> None:
    (folder / "plain.txt").write_text("text")
    for name, text in [("no_interpreter", "#!/nowhere/interpreter\n"), ("no_format", "\x7fELF no")]:
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    with pytest.raises(FixConfiguration, match=message) as caught:
        async with opened(folder, target=target):
            raise AssertionError
    assert str(caught.value).startswith("hook.target = ")


async def test_program_that_cannot_run_now_is_tried_again(folder: Path) -> None:
    with pytest.raises(TryLater, match="exit code 75"):
        async with opened(folder, target="exec:/bin/sh -c 'exit 75'"):
            raise AssertionError
