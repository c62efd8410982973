"""Finding a hook by name, in a real worker process: every problem has its own words."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from watcher.errors import FixConfiguration, TryLater
from watcher.hook.output import Log
from watcher.hook.plan import PoolPlan
from watcher.hook.pool import WorkerPool
from watcher.hook.runner import open_runner
from watcher.task import Response
from watcher.testing import make_task, run_hook


async def check_hook(target: str, app_dir: Path, *, timeout_s: float = 60.0, log: Log | None = None) -> str:
    """Load the hook as the daemon does and return its version."""
    plan = PoolPlan(workers=1, start_timeout_s=timeout_s)
    async with open_runner(target, plan, app_dir=app_dir, log=log) as runner:
        return runner.version


EXAMPLE = Path(__file__).parents[2] / "examples" / "squaring"

GOOD = """
class Group:
    def respond(self, task): return b"grouped"
    async def respond_async(self, task): return b"grouped async"

group = Group()

def make(): return group.respond
def make_nothing(): return None
def raises(): raise ValueError("no key")
def waits(): raise ConnectionError("no route")

def respond(task): return b"good"
def no_argument(): return b""
def two_arguments(task, other): return b""
def yields(task): yield b""
constant = 5
"""

MODULES = {
    "good.py": GOOD,
    "broken_syntax.py": "x = 1\ndef respond(task:\n",
    "raises.py": "\n\nimport json\njson.loads('{')\n",
    "misses.py": "import good\nimport not_installed_anywhere\n",
    "stops.py": "import sys\nsys.exit('bye\\nbye')\n",
    "dies.py": "import os\nprint('about to die')\nos._exit(9)\n",
    "crashes.py": "import ctypes\nctypes.string_at(0)\n",
    "hangs.py": "import time\ntime.sleep(600)\n",
    "prints.py": "print('hello from import')\ndef respond(task): return b''\n",
    "lazy.py": "def __getattr__(name): raise RuntimeError('no ' + name)\n",
    "pack/__init__.py": "",
    "pack/inner.py": "def respond(task): return b'inner'\n",
}


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    for name, source in MODULES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    return tmp_path


def entry_point(app_dir: Path, package: str, name: str, value: str, group: str = "avs_watcher.hooks") -> None:
    info = app_dir / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("goood:respond", r"there is no module goood \(looked in .* and the installed packages\); did you mean good\?"),
        ("pack.outer:respond", r"there is no module pack\.outer "),
        ("good.deeper:respond", r"there is no module good\.deeper "),
        ("raises:respond", r"the module raises raised while importing: JSONDecodeError: .* \(\S*/raises\.py:4\)"),
        (
            "misses:respond",
            r"raised while importing: ModuleNotFoundError: No module named 'not_inst.*/misses\.py:2\); install",
        ),
        ("broken_syntax:respond", r"raised while importing: SyntaxError: .* \(\S*/broken_syntax\.py:2\)"),
        ("stops:respond", r"raised while importing: SystemExit: bye\\nbye \(\S*/stops\.py:2\)"),
        ("dies:respond", r"the worker process ended with exit code 9; it last printed: about to die"),
        ("crashes:respond", r"while importing the module, the worker process was killed by SIGSEGV"),
        ("good:responds", r"the module good has no responds; did you mean respond\?"),
        ("good:group.nothing", r"the module good has no group\.nothing"),
        ("lazy:respond", r"looking up respond raised RuntimeError: no respond"),
        ("good:constant", r"is not callable: it is of type int"),
        ("good:Group", r"is a class"),
        ("good:no_argument", r"takes the wrong number of arguments: it is called with one, the task, and has \(\)"),
        ("good:two_arguments", r"takes the wrong number of arguments.*\(task, other\)"),
        ("good:yields", r"is a generator; use `return`"),
        ("exec:/usr/bin/true", r"it must wait for tasks, and the program ended with exit code 0"),
        ("http://127.0.0.1:0/x", r"is not a list of http:// or https:// URLs"),
        ("https://user:canary@/x", r"is not a list of http:// or https:// URLs"),
        ("https://user:canary@host/x other", r"is not a list of http:// or https:// URLs"),
        ("good", r"is neither module:attribute nor an entry point in the group avs_watcher\.hooks"),
        ("good:", r"write it as module:attribute"),
        ("../good:respond", r"write it as module:attribute"),
        ("good:respond()", r"the factory raised TypeError: respond\(\) missing 1 required"),
        ("good:raises()", r"the factory raised ValueError: no key \(\S*/good\.py:"),
        ("good:make_nothing()", r"is not callable: it is of type NoneType"),
        ("good:constant()", r"the factory is not callable: it is of type int"),
        ("good:make(1)", r"write it as module:attribute"),
        ("", r"is neither module:attribute nor an entry point"),
    ],
)
async def test_each_problem_with_a_target_has_its_own_words(app_dir: Path, target: str, message: str) -> None:
    with pytest.raises(FixConfiguration) as problem:
        await check_hook(target, app_dir)
    assert re.search(message, str(problem.value)), str(problem.value)
    assert str(problem.value).startswith("hook.target = ")
    assert str(problem.value).isprintable() and "Traceback" not in str(problem.value)
    assert len(problem.value.problems) == 1
    assert "canary" not in str(problem.value)


async def test_last_reply_of_a_worker_is_read_when_it_has_ended(app_dir: Path) -> None:
    """On a busy machine the end was noticed before the words were read, and then there were none."""
    loading = asyncio.create_task(check_hook("", app_dir))
    for _ in range(50):  # until it is started and has its order
        await asyncio.sleep(0)
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - nobody looks before it has ended
    with pytest.raises(FixConfiguration, match="neither module:attribute nor an entry point"):
        await loading


async def test_an_import_that_hangs_is_cut_short(app_dir: Path) -> None:
    with pytest.raises(TryLater, match=r"importing the module took longer than 0\.3 s"):
        await check_hook("hangs:respond", app_dir, timeout_s=0.3)


PASSING = {
    "an OSError": "raise OSError('I/O error')",
    "a refused connection": "import socket\nsocket.create_connection(('127.0.0.1', 1), timeout=5)",
    "an unknown host": "import socket\nraise socket.gaierror(-3, 'Temporary failure in name resolution')",
    "a time-out": "raise TimeoutError('no reply')",
    "a file of a mount": "open('/nonexistent-mount/model.bin')",
    "no memory": "raise MemoryError",
    "a library's own error with its cause": (
        "class Failed(Exception): pass\n"
        "try: raise ConnectionResetError('by peer')\n"
        "except OSError as error: raise Failed('cannot fetch the key') from error"
    ),
    "an exit in a handler": "import sys\ntry: open('/nonexistent-mount/x')\nexcept OSError: sys.exit('no data')",
    "one of a group": "raise ExceptionGroup('both', [ValueError(1), OSError('no route')])",
    "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
}
LASTING = {
    "a missing module": "import not_installed_anywhere",
    "a missing name": "from json import nothing",
    "a missing attribute": "import json\njson.nothing",
    "wrong syntax": "def respond(task:",
    "wrong indentation": "def respond(task):\nreturn b''",
    "an undefined name": "nothing",
    "a wrong value": "int('x')",
    "an import after a failed file": "try: open('/nonexistent/x')\nexcept OSError: import not_installed_anywhere",
    "an error that hides its context": "try: open('/nonexistent/x')\nexcept OSError: raise ValueError(1) from None",
}


@pytest.mark.parametrize("name", PASSING)
async def test_an_import_is_worth_another_try_when_the_system_failed(app_dir: Path, name: str) -> None:
    (app_dir / "tried.py").write_text(PASSING[name])
    with pytest.raises(TryLater, match=r"^hook\.target = 'tried:respond': .*importing"):
        await check_hook("tried:respond", app_dir)


@pytest.mark.parametrize("name", LASTING)
async def test_an_import_needs_a_person_when_the_code_is_wrong(app_dir: Path, name: str) -> None:
    (app_dir / "tried.py").write_text(LASTING[name])
    with pytest.raises(FixConfiguration):
        await check_hook("tried:respond", app_dir)


async def test_a_missing_folder_may_be_a_mount_when_its_parent_is_empty(app_dir: Path) -> None:
    (app_dir / "mnt").mkdir()
    with pytest.raises(TryLater, match=r"there is no folder .*/mnt/hooks, and .*/mnt is empty: is it mounted"):
        await check_hook("good:respond", app_dir / "mnt" / "hooks")


async def test_a_folder_that_is_not_there_is_named(app_dir: Path) -> None:
    with pytest.raises(FixConfiguration, match=r"hook\.app_dir: there is no folder .*/nowhere"):
        await check_hook("good:respond", app_dir / "nowhere")


async def test_pool_starts_only_with_a_hook_that_loads(app_dir: Path) -> None:
    with pytest.raises(FixConfiguration, match="raised while importing"):
        async with WorkerPool("raises:respond", app_dir):
            pytest.fail("entered")


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("good:respond", b"good"),
        ("good:group.respond", b"grouped"),
        ("good:group.respond_async", b"grouped async"),
        ("pack.inner:respond", b"inner"),
        ("good:make()", b"grouped"),
    ],
)
def test_functions_methods_and_dotted_modules_are_found(app_dir: Path, target: str, answer: bytes) -> None:
    assert run_hook(target, make_task(), app_dir=app_dir) == answer


def test_an_entry_point_is_found_by_its_name(app_dir: Path) -> None:
    entry_point(app_dir, "pkg_a", "my-avs", "good:respond")
    assert run_hook("my-avs", make_task(), app_dir=app_dir) == b"good"


def test_an_entry_point_of_the_distributions_name_is_found(app_dir: Path) -> None:
    entry_point(app_dir, "pkg_a", "my-avs", "good:respond", "avs_task_watcher.hooks")
    assert run_hook("my-avs", make_task(), app_dir=app_dir) == b"good"


async def test_factory_that_fails_for_a_passing_reason_is_tried_again(app_dir: Path) -> None:
    with pytest.raises(TryLater, match="the factory raised ConnectionError: no route"):
        await check_hook("good:waits()", app_dir)


async def test_a_misspelt_or_ambiguous_entry_point_is_explained(app_dir: Path) -> None:
    entry_point(app_dir, "pkg_a", "my-avs", "good:respond")
    entry_point(app_dir, "pkg_b", "twice", "good:respond")
    entry_point(app_dir, "pkg_c", "twice", "pack.inner:respond")
    with pytest.raises(FixConfiguration, match=r"did you mean my-avs\?"):
        await check_hook("my-av", app_dir)
    with pytest.raises(
        FixConfiguration, match=r"several installed packages offer it \(good:respond, pack.inner:respond\)"
    ):
        await check_hook("twice", app_dir)


async def test_the_version_follows_the_source_and_the_target(app_dir: Path) -> None:
    first = await check_hook("good:respond", app_dir)
    assert re.fullmatch(r"good:respond@[0-9a-f]{12}", first)
    assert await check_hook("good:respond", app_dir) == first
    (app_dir / "good.py").write_text(GOOD + "# edited\n")
    assert await check_hook("good:respond", app_dir) != first


async def test_what_a_module_prints_while_importing_is_logged_without_a_task(app_dir: Path) -> None:
    seen: list[tuple[object, str]] = []
    await check_hook("prints:respond", app_dir, log=lambda task, line: seen.append((task, line)))
    assert seen == [(None, "hello from import")]


def test_the_hooks_folder_is_on_the_path_of_the_worker_only(app_dir: Path) -> None:
    before = list(sys.path)
    run_hook("good:respond", make_task(), app_dir=app_dir)
    assert sys.path == before and "good" not in sys.modules


async def test_a_worker_imports_nothing_heavy(app_dir: Path) -> None:
    (app_dir / "nosy.py").write_text("import sys\ndef respond(task): return ' '.join(sys.modules).encode()\n")
    async with WorkerPool("nosy:respond", app_dir) as pool:
        response = await pool.run(make_task())
    assert isinstance(response, Response)
    modules = response.resp_message.decode().split()
    assert "watcher.hook.worker" in modules
    assert not {"web3", "sqlalchemy", "pydantic", "loguru", "asyncio", "typer"} & set(modules)


@pytest.mark.parametrize(("number", "square"), [(0, 0), (12, 144), (2**128, 0), (2**256 - 1, 1)])
def test_the_example_squares_like_a_uint256(number: int, square: int) -> None:
    answer = run_hook("squaring:respond", make_task(number.to_bytes(32, "big")), app_dir=EXAMPLE)
    assert answer == square.to_bytes(32, "big")
