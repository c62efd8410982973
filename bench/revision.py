"""Another revision of the watcher: a git worktree in the cache, with an environment of its own."""

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.errors import Failed
from bench.machine import ROOT, git, is_changed
from bench.program import Program

_KEPT = 3
_STEP_TIMEOUT_S = 600


def last() -> str:
    """Return the revision to compare with: the commit below the changes of the working tree, else its parent."""
    return "HEAD" if is_changed() else "HEAD~1"


async def program_at(revision: str, cache: Path) -> Program:
    """Return the watcher at a revision, checked out and installed. Raises Failed."""
    commit = git("rev-parse", "--verify", "--short=12", f"{revision}^{{commit}}")
    if not commit:
        raise Failed(f"git knows no revision {revision}")
    folder = cache / "revisions" / commit
    python = folder / ".venv" / "bin" / "python"
    if not (folder / ".venv" / ".ready").exists():
        _forget(cache / "revisions", _KEPT - 1)
        await _run(("git", "worktree", "add", "--detach", "--force", str(folder), commit), ROOT)
        sync = ("sync", "--quiet", "--locked", "--no-dev", "--extra", "postgres", "--compile-bytecode")
        await _run((sys.executable, "-m", "uv", *sync), folder)
        await _run((str(python), "-m", "compileall", "-q", "watcher", "migrations"), folder)
        (folder / ".venv" / ".ready").touch()
    return Program(commit, python)


def _forget(folder: Path, kept: int) -> None:
    """Remove the oldest worktrees but some."""
    if not folder.exists():
        return
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)[kept:]:
        shutil.rmtree(path, ignore_errors=True)
    git("worktree", "prune")


async def _run(command: Sequence[str], folder: Path) -> None:
    """Run a step. Raises Failed with the end of its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["UV_PROJECT_ENVIRONMENT"] = ".venv"
    environment.pop("VIRTUAL_ENV", None)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(_STEP_TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        raise Failed(f"{' '.join(command[:4])} did not end within {_STEP_TIMEOUT_S} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise Failed(f"{' '.join(command[:4])} failed: {output.decode(errors='replace')[-500:]}")
