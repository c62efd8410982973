"""The plugin of pytest, in runs of its own: the fixtures with real workers and a real devnet, and runs without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOOK = """
import os, sys, time
from watcher import Later, Skip

def respond(task):
    print("printed")
    match task.message:
        case b"skip": return Skip("no")
        case b"later": return Later(blocks=2)
        case b"exit": os._exit(3)
        case b"raise": raise ValueError("bad")
        case b"hang": time.sleep(60)
        case b"type": return "text"
        case b"pid": return str(os.getpid()).encode()
    return (int.from_bytes(task.message, "big") ** 2 % 2**256).to_bytes(32, "big")
"""
CONFIG = '[hook]\ntarget = "mine:respond"\ntimeout_s = 1.5\n'
TESTS = """
import os
import mine
import pytest
from watcher import Later, Skip
from watcher.errors import AttemptFailed
from watcher.testing import replay_cases as cases_of

def number(n): return n.to_bytes(32, "big")

def test_verdicts(run_hook, make_task):
    assert run_hook(make_task(number(3))) == number(9)
    assert run_hook(number(3)) == number(9)
    assert run_hook("mine:respond", make_task(number(3))) == number(9)
    assert run_hook(mine.respond, number(3)) == number(9)
    assert run_hook(b"skip") == Skip("no") and run_hook(b"later") == Later(blocks=2)

def test_a_worker_of_its_own_is_kept(run_hook):
    pid = int(run_hook(b"pid"))
    assert pid != os.getpid() and int(run_hook(b"pid")) == pid

@pytest.mark.parametrize(("message", "words"), [
    (b"exit", "exit code 3"), (b"raise", "bad"), (b"hang", "longer than timeout_s = 1.5 s"), (b"type", "str"),
])
def test_failures(run_hook, message, words):
    with pytest.raises(AttemptFailed, match=words):
        run_hook(message)
    assert run_hook(number(2)) == number(4)

@pytest.mark.parametrize("case", cases_of("tasks.json"), ids=str)
def test_case(case, run_hook):
    assert run_hook(case.task) == case.response

def test_cases(replay_cases, run_hook):
    assert [run_hook(case.task) for case in replay_cases("tasks.json")] == [number(4), number(9)]

def test_devnet(devnet):
    task = devnet.ask(number(5))
    assert (task["state"], task["response"]) == ("final", "0x" + number(25).hex()), devnet.log
    failed = devnet.create(b"skip")
    assert devnet.outcome(*failed)["state"] == "skipped"
    assert len(devnet.tasks()) == 2
"""
CASES = (
    '{"message": "0x02", "response": "0x' + "00" * 31 + '04"}\n{"message": "0x03", "response": "0x' + "00" * 31 + '09"}'
)


def run_pytest(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *arguments],
        cwd=folder, env={**os.environ, **environ}, capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in {
        "mine.py": HOOK,
        "watcher.toml": CONFIG,
        "test_mine.py": TESTS,
        "tasks.json": CASES,
        "pytest.ini": "[pytest]\npythonpath = .\n",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_fixtures_run_the_hook_as_the_daemon_does(project: Path) -> None:
    done = run_pytest(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout
    assert not (project / "devnet").exists()


def test_devnet_skips_with_the_reason_where_no_anvil_is(project: Path) -> None:
    done = run_pytest(project, "-k", "devnet", WATCHER_ANVIL="/no/anvil")
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout and "WATCHER_ANVIL names /no/anvil" in done.stdout


def test_a_run_that_uses_no_fixture_loads_next_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "def test_modules():\n"
        "    ours = {name for name in sys.modules if name.split('.')[0] == 'watcher'}\n"
        "    assert ours == {'watcher', 'watcher.task', 'watcher.state', 'watcher.testing', 'watcher.testing.plugin'}\n"
        "    assert not {'pydantic', 'sqlalchemy', 'aiohttp', 'loguru', 'web3'} & set(sys.modules)\n"
        "def test_own_fixture_wins(devnet, make_task):\n"
        "    assert devnet == make_task == 'mine'\n"
    )
    (tmp_path / "conftest.py").write_text(
        "import pytest\n@pytest.fixture\ndef devnet(): return 'mine'\n@pytest.fixture\ndef make_task(): return 'mine'\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout


def test_a_project_without_settings_is_told_what_to_name(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(run_hook):\n    run_hook(b'')\n")
    done = run_pytest(tmp_path)
    assert done.returncode == 1
    assert "name the hook, or set the ini option watcher_config" in done.stdout


def test_conftest_names_another_hook(project: Path) -> None:
    (project / "other.py").write_text("def respond(task): return b'other'\n")
    (project / "conftest.py").write_text(
        "import pytest\n@pytest.fixture(scope='session')\ndef watcher_hook(): return 'other:respond'\n"
    )
    (project / "test_mine.py").write_text("def test_it(run_hook):\n    assert run_hook(b'') == b'other'\n")
    done = run_pytest(project)
    assert done.returncode == 0, done.stdout
