"""New projects as their users have them: a wheel in an environment of its own, and the tests of every language."""

import os
import shutil
import subprocess
import sys
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


def test_example_project_is_green_with_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    done = run(installed / "watcher", "init", "--template", "first-hook", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "next: cd first-hook && python -m pytest" in done.stdout
    project, example = tmp_path / "first-hook", ROOT / "examples" / "first_hook"
    for path in (path for path in example.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        assert (project / path.relative_to(example)).read_bytes() == path.read_bytes(), path
    done = run(installed / "python", "-m", "pytest", "-rs", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout or "7 passed, 1 skipped" in done.stdout, done.stdout


@pytest.mark.parametrize("language", PROGRAMS)
def test_project_of_another_language_is_green(language: Language, tmp_path: Path) -> None:
    if missing := [program for program in PROGRAMS[language] if shutil.which(program) is None]:
        pytest.skip(f"{' and '.join(missing)} not installed")
    project = tmp_path / "my-avs"
    write_project(project, language)
    if language is Language.TYPESCRIPT:
        done = run("npm", "install", "--no-audit", "--no-fund", "--prefer-offline", cwd=project)
        if done.returncode:
            pytest.skip(f"npm reaches no registry: {done.stderr[-300:]}")
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
