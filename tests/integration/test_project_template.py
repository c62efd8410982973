"""New projects as their users have them: a wheel in an environment of its own, and the tests of every language."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from watcher.project.template import Language, write_project

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
PROGRAMS = {
    Language.SHELL: ["sh", "awk"],
    Language.GO: ["go"],
    Language.TYPESCRIPT: ["node", "npm"],
}


def run(*command: str | Path, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=clean_environment() | environ, capture_output=True, text=True, check=False, timeout=280
    )


def clean_environment() -> dict[str, str]:
    """Return the environment without this checkout."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTEST_ADDOPTS", "WATCHER_CONFIG")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def check_reached(done: subprocess.CompletedProcess[str]) -> None:
    """Skip if a step failed because no package index is reachable; any other failure is one of the test."""
    if done.returncode and any(word in done.stderr for word in ("Failed to fetch", "Could not connect", "dns error")):
        pytest.skip(f"no package index: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and install it with its extra into a new environment; skip where no index is reachable."""
    if not UV.exists():
        pytest.skip("uv is not in this environment")
    folder = tmp_path_factory.mktemp("wheel")
    steps: list[list[str | Path]] = [
        [UV, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT],
        [UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"],
    ]
    for step in steps:
        check_reached(run(*step, cwd=folder))
    (wheel,) = folder.glob("*.whl")
    # The versions of the lock are in the cache.
    install: list[str | Path] = [UV, "pip", "install", "--quiet", "--python", folder / "venv" / "bin" / "python"]
    check_reached(run(*install, "-c", ROOT / "requirements.txt", f"{wheel}[testing]", cwd=folder))
    return folder / "venv" / "bin"


def test_example_project_is_what_the_wheel_writes(installed: Path, tmp_path: Path) -> None:
    done = run(installed / "watcher", "init", "--template", "first-hook", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "next: cd first-hook && python -m pytest" in done.stdout
    project, example = tmp_path / "first-hook", ROOT / "examples" / "first_hook"
    for path in (path for path in example.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        assert (project / path.relative_to(example)).read_bytes() == path.read_bytes(), path


PAGE = ROOT / "docs" / "first-hook.md"
# The blocks that run until they are stopped, by their last line, and the text that says that they are ready.
STAYING = {"watcher devnet": "# export WATCHER_OPERATOR__PASSWORD=", ". devnet/env && watcher run": "daemon.watching"}


def wait_for(log: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + 90
    while text not in log.read_text(errors="replace"):
        assert process.poll() is None and time.monotonic() < deadline_s, log.read_text(errors="replace")
        time.sleep(0.05)


def blocks() -> list[str]:
    """Return the commands of the page without the installation, block by block."""
    all_blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert "pip install 'avs-task-watcher[testing,devnet]'" in all_blocks[0]
    return [block.strip() for block in all_blocks[1:]]


def test_the_page_for_a_first_hook_can_be_followed(installed: Path, tmp_path: Path) -> None:
    """One shell runs the blocks one after the other; those that stay run beside it."""
    environ = clean_environment() | {"PATH": f"{installed}:{os.environ['PATH']}"}
    environ = {
        name: value for name, value in environ.items() if not name.startswith("WATCHER_") or name == "WATCHER_ANVIL"
    }
    folder, output = tmp_path, ""
    staying: list[subprocess.Popen[bytes]] = []
    settings: dict[str, str] = {}
    try:
        for block in blocks():
            log = tmp_path / f"log-{len(staying)}.txt"
            if block in STAYING:
                with log.open("wb") as file:
                    command = block.replace("watcher run", "exec watcher run") if "&&" in block else f"exec {block}"
                    staying.append(
                        subprocess.Popen(["bash", "-c", command], cwd=folder, env=environ, stdout=file, stderr=file)
                    )
                wait_for(log, STAYING[block], staying[-1])
                continue
            script = f"set -e\n{block}\npwd > {tmp_path}/folder\nenv -0 > {tmp_path}/environ\n"
            done = subprocess.run(
                ["bash", "-c", script], cwd=folder, env=environ | settings, capture_output=True, text=True, check=False,
                timeout=200,
            )  # fmt: skip
            assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
            output += done.stdout
            folder = Path((tmp_path / "folder").read_text().strip())
            pairs = (pair.partition("=") for pair in (tmp_path / "environ").read_text().split("\0"))
            settings = {name: value for name, _, value in pairs if name.startswith("WATCHER_")}
    finally:
        for process in reversed(staying):
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    assert "8 passed" in output and "2 passed" in output
    assert "0x" + (441).to_bytes(32, "big").hex() in output
    assert "the answers differ: exit code 1" in output


# The file of the hook on the page, by the fence of its block, and the build.
OWN_HOOKS = {
    Language.SHELL: ("awk", "hook.sh", []),
    Language.GO: ("go", "hook.go", ["go", "build", "-o", "hook", "."]),
    Language.TYPESCRIPT: ("ts", "src/hook.ts", ["npm", "run", "--silent", "build"]),
}


def prepare(project: Path, language: Language) -> None:
    """Write a project; skip if the test cannot build it here."""
    if missing := [program for program in PROGRAMS[language] if shutil.which(program) is None]:
        pytest.skip(f"{' and '.join(missing)} not installed")
    write_project(project, language)
    if language is Language.TYPESCRIPT:
        done = run("npm", "install", "--no-audit", "--no-fund", "--prefer-offline", cwd=project)
        if done.returncode:
            pytest.skip(f"npm reaches no registry: {done.stderr[-300:]}")


@pytest.mark.parametrize(
    "language",
    [
        Language.SHELL,
        pytest.param(Language.GO, marks=pytest.mark.long),
        pytest.param(Language.TYPESCRIPT, marks=pytest.mark.long),
    ],
)
def test_the_page_has_a_hook_with_values_in_other_languages(language: Language, tmp_path: Path) -> None:
    project = tmp_path / "my-avs"
    prepare(project, language)
    fence, name, build = OWN_HOOKS[language]
    text = PAGE.read_text()
    (block,) = re.findall(rf"```{fence}\n(.*?)```", text, re.DOTALL)
    hook, config = project / name, project / "watcher.toml"
    if language is Language.SHELL:  # a part of the file
        before, _, last = hook.read_text().rpartition("    {\n")
        block = before + block.rstrip() + last.partition("    }")[2]
    hook.write_text(block)
    for line in re.findall(r"^sed -i '(s/\^(?:message|response).*)' watcher\.toml$", text, re.MULTILINE):
        assert run("sed", "-i", line, config, cwd=project).returncode == 0
    if build:
        done = run(*build, cwd=project)
        assert done.returncode == 0, done.stdout + done.stderr
    for owner, verdict in (("0x" + "2a" * 20, "answer"), ("0x" + "00" * 20, "skip")):
        line = ("hook", "try", "--json", "--abi", "(uint256,address)", str(2**100 + 1), owner)
        done = run(sys.executable, "-m", "watcher", *line, cwd=project)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["verdict"] == verdict
        if verdict == "answer":
            assert result["response"] == f"0x{(2**100 + 1) ** 2:064x}{owner[2:]:0>64}"


@pytest.mark.long
@pytest.mark.parametrize("language", PROGRAMS)
def test_project_of_another_language_is_green(language: Language, tmp_path: Path) -> None:
    project = tmp_path / "my-avs"
    prepare(project, language)
    done = run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "not devnet", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed, 1 deselected" in done.stdout


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (("--template", "x", "--hook"), "goes with --language alone"),
        (("--template", "x", "--force"), "goes with --language alone"),
        (("--language", "go"), "add --template DIR"),
        (("--template", "x", "--language", "cobol"), "cobol"),
        (("--template", "watcher.toml"), "is a file"),
    ],
)
def test_command_refuses_what_makes_no_sense(line: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    (tmp_path / "watcher.toml").write_text("mine")
    done = run(sys.executable, "-m", "watcher", "init", *line, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (64, "")
    assert reason in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["watcher.toml"]
