"""A machine of its own with a real systemd: systemd-nspawn over a root folder made by debootstrap, booted in a second.

The root folder holds the built wheel in an environment below /opt, as an operator would install it. It is kept in a
cache outside the checkout (`$XDG_CACHE_HOME`, else /var/cache) and is booted under an overlay in memory, so that no
run leaves a trace in it. Everything that cannot be had here becomes a `Missing` with the reason, for a skip.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PROGRAM = "/opt/avs-task-watcher/bin/watcher"
_PYTHON = "/opt/avs-task-watcher/bin/python"
_INCLUDE = "systemd,systemd-sysv,dbus,python3,python3-venv,ca-certificates"
_BOOT_TIMEOUT_S = 40.0
_TOOLS = {"systemd-nspawn": "systemd-container", "debootstrap": "debootstrap"}


class Missing(Exception):
    """Why no machine can be had here."""


@dataclass(frozen=True)
class Ran:
    """A command that has ended inside."""

    code: int
    out: str
    err: str


def _run(command: Sequence[str | Path], what: str, timeout_s: float, **environment: str) -> str:
    arguments = [str(part) for part in command]
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=timeout_s, env={**os.environ, **environment}, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{what}: {type(error).__name__}") from None
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip() and "propagate" not in line]
        raise Missing(f"{what}: {lines[-1][:300] if lines else f'exit code {done.returncode}'}")
    return done.stdout


def tools() -> None:
    """nspawn and debootstrap, installed where that can be done."""
    if os.geteuid() != 0:
        raise Missing("a real systemd needs root")
    packages = [package for tool, package in _TOOLS.items() if shutil.which(tool) is None]
    if not packages:
        return
    if shutil.which("apt-get") is None:
        raise Missing(f"{' and '.join(packages)} are not installed, and there is no apt-get to install them")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        _run(["apt-get", "update", "-qq"], "apt-get update", 120, **quiet)
    except Missing:
        pass  # one list of several may be out of reach; the installation says what matters
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    _run(command, f"apt-get install {' '.join(packages)}", 240, **quiet)


def cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "avs-task-watcher-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def mirror() -> tuple[str, str]:
    """The suite and the mirror of this machine's own apt sources."""
    release = Path("/etc/os-release").read_text()
    match = re.search(r"^VERSION_CODENAME=(\S+)", release, re.M)
    if match is None:
        raise Missing("this system has no codename, so there is no suite to install")
    suite = match[1].strip('"')
    folder = Path("/etc/apt")
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        text = path.read_text(errors="replace") if path.is_file() else ""
        for uri, suites in (
            *re.findall(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)", text, re.M),
            *re.findall(r"^URIs:\s*(\S+).*?^Suites:\s*([^\n]+)", text, re.M | re.S),
        ):
            if suite in suites.split():
                return suite, uri
    raise Missing(f"no apt source of this machine has {suite}")


def prepared() -> Path:
    """The root folder with this checkout's wheel installed. Two at once wait for each other."""
    tools()
    folder = cache()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = _bootstrapped(folder)
        _install(folder, root)
    return root


def _bootstrapped(folder: Path) -> Path:
    suite, url = mirror()
    root, part = folder / suite, folder / f".{suite}.part"
    if not root.is_dir():
        shutil.rmtree(part, ignore_errors=True)
        _run(["debootstrap", "--variant=minbase", f"--include={_INCLUDE}", suite, part, url], "debootstrap", 300)
        part.rename(root)
    return root


def _install(folder: Path, root: Path) -> None:
    """The dependencies of the lock file once, our own wheel each time."""
    lock_file = (CHECKOUT / "uv.lock").read_bytes()
    version = _inside(root, "/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    key = hashlib.sha256(lock_file + version.encode()).hexdigest()[:16]
    builder = folder / "builder" / "bin" / "python"
    pip: list[str | Path] = [builder, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    if not builder.exists():
        _run([sys.executable, "-m", "venv", "--clear", folder / "builder"], "python -m venv", 120)
        _run([*pip, "install", "hatchling"], "pip install hatchling", 120)
    fresh = root / "wheels" / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    _run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", fresh, CHECKOUT], "building the wheel", 120)
    (wheel,) = fresh.glob("*.whl")
    mark = root / "wheels" / "key"
    if not mark.exists() or mark.read_text() != key:
        locked = tomllib.loads(lock_file.decode())["package"]
        pins = folder / "pins.txt"
        pins.write_text(
            "".join(
                f"{package['name']}=={package['version']}\n" for package in locked if "registry" in package["source"]
            )
        )
        known = root / "wheels" / "known"
        command = [*pip, "download", "--only-binary=:all:", "--python-version", version, "-c", pins, "-d", known, wheel]
        _run(command, "pip download", 300)
        _inside(root, "/usr/bin/python3", "-m", "venv", "--clear", "/opt/avs-task-watcher")
        _pip_inside(root, "--find-links=/wheels/known", f"/wheels/fresh/{wheel.name}")
        mark.write_text(key)
    else:
        _pip_inside(root, "--no-deps", "--force-reinstall", f"/wheels/fresh/{wheel.name}")


def _pip_inside(root: Path, *arguments: str) -> None:
    command = ("--quiet", "--disable-pip-version-check", "install", "--root-user-action=ignore", "--no-index")
    _inside(root, _PYTHON, "-m", "pip", *command, *arguments, timeout_s=240)


def _inside(root: Path, *command: str, timeout_s: float = 120) -> str:
    flags = ["--quiet", "--register=no", "--keep-unit", "--pipe", "--setenv=PYTHONDONTWRITEBYTECODE="]
    return _run(["systemd-nspawn", *flags, "-D", root, *command], f"{command[0]} in the new root", timeout_s)


class Machine:
    """A booted one. Commands run inside, its network is this machine's."""

    def __init__(self, process: subprocess.Popen[bytes], leader: int) -> None:
        self._process = process
        self._leader = leader

    def run(self, *command: str, timeout_s: float = 60, text: str | None = None) -> Ran:
        """A command as root, in all namespaces of the machine."""
        arguments = [
            "nsenter",
            "--target",
            str(self._leader),
            "--all",
            "--",
            "/usr/bin/env",
            "-i",
            *_ENVIRONMENT,
            *command,
        ]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout_s, input=text, check=False)
        return Ran(done.returncode, done.stdout, done.stderr)

    def ok(self, *command: str, timeout_s: float = 60) -> str:
        """The same, and it must succeed."""
        done = self.run(*command, timeout_s=timeout_s)
        assert done.code == 0, f"{' '.join(command)}: {done.err}{done.out}"
        return done.out

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        done = self.run(
            "/bin/sh", "-c", f"mkdir -p $(dirname {path}) && cat > {path} && chmod {mode:o} {path}", text=text
        )
        assert done.code == 0, done.err

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        lines = self.ok("systemctl", "show", unit, f"--property={','.join(names)}").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def journal(self, unit: str) -> str:
        """What a unit has written, as JSON lines with all their fields."""
        self.ok("journalctl", "--sync")
        return self.ok("journalctl", "--no-pager", "-o", "json", "-u", unit)

    def power_off(self) -> None:
        self.run("systemctl", "poweroff", "--no-block")
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


_ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root")


@contextmanager
def booted(root: Path, log: Path) -> Iterator[Machine]:
    """Boots it, and powers it off at the end. Raises Missing when it does not come up."""
    flags = ["--quiet", "--register=no", "--keep-unit", "--volatile=overlay", "--machine=watcher-test"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["systemd-nspawn", *flags, "--boot", "-D", str(root)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        machine = Machine(process, _leader(process, log))
        _await_boot(machine, log)
    except BaseException:
        process.terminate()  # which nspawn passes on as a power-off
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    try:
        yield machine
    finally:
        machine.power_off()


def _leader(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline_s = time.monotonic() + _BOOT_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        for child in _children(process.pid):
            try:
                status = Path(f"/proc/{child}/status").read_text()
            except OSError:
                continue
            if re.search(r"^NSpid:\s+\d+\s+1$", status, re.M):
                return child
        time.sleep(0.05)
    raise Missing(f"systemd-nspawn did not boot: {_end_of(log)}")


def _children(pid: int) -> list[int]:
    children = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        children += [int(word) for word in path.read_text().split()]
    return children


def _await_boot(machine: Machine, log: Path) -> None:
    deadline_s = time.monotonic() + _BOOT_TIMEOUT_S
    state = ""
    while time.monotonic() < deadline_s:
        state = machine.run("systemctl", "is-system-running").out.strip()
        if state in ("running", "degraded"):
            return
        time.sleep(0.1)
    raise Missing(f"the machine did not come up ({state or 'no answer'}): {_end_of(log)}")


def _end_of(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
