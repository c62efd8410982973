"""The environments of peers, made on demand from their pinned files and kept in the cache."""

import asyncio
import hashlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.errors import Unavailable

PEERS = Path(__file__).parent / "peers"
_INSTALL_TIMEOUT_S = 600
_READY = ".ready"  # holds the digest of the pinned files that the environment was made from


async def python_of(peer: str, cache: Path) -> Path:
    """Return the interpreter of a peer's environment (`requirements.txt`). Raises Unavailable."""
    folder = cache / peer
    python = folder / "bin" / "python"
    pinned = PEERS / peer / "requirements.txt"
    if not _is_ready(folder, [pinned]):
        uv = (sys.executable, "-m", "uv")
        await _install(peer, (*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)), cache)
        sync = (*uv, "pip", "sync", "--quiet", "--compile-bytecode", "--python", str(python), str(pinned))
        await _install(peer, sync, cache)
        _set_ready(folder, [pinned])
    return python


async def node_modules_of(peer: str, cache: Path) -> Path:
    """Return the folder of a peer's packages (`package.json` with its lock). Raises Unavailable."""
    folder = cache / peer
    pinned = [PEERS / peer / "package.json", PEERS / peer / "package-lock.json"]
    if not _is_ready(folder, pinned):
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            raise Unavailable(f"{peer}: no npm on this machine")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in pinned:
            shutil.copy(file, folder)
        await _install(peer, (npm, "ci", "--no-audit", "--no-fund", "--fetch-retries=1", "--loglevel=error"), folder)
        _set_ready(folder, pinned)
    return folder / "node_modules"


def _digest(pinned: Sequence[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in pinned)).hexdigest()


def _is_ready(folder: Path, pinned: Sequence[Path]) -> bool:
    marker = folder / _READY
    return marker.exists() and marker.read_text() == _digest(pinned)


def _set_ready(folder: Path, pinned: Sequence[Path]) -> None:
    (folder / _READY).write_text(_digest(pinned))


async def _install(peer: str, command: Sequence[str], folder: Path) -> None:
    """Run an installer. Raises Unavailable with the end of its output if it fails or takes too long."""
    folder.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_INSTALL_TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        raise Unavailable(f"{peer}: its packages were not installed within {_INSTALL_TIMEOUT_S} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = output.decode(errors="replace").strip().splitlines() or ["no message"]
        raise Unavailable(f"{peer}: its packages cannot be installed: {lines[-1][:300]}")
