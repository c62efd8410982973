"""`watcher systemd`: the unit files for this installation."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from watcher.errors import FixUsage, TryLater
from watcher.files import shipped

app = typer.Typer(help="Print or install the units that run this installation.", no_args_is_help=True)

UNITS = ("watcher@.service", "watcher-backup@.service", "watcher-backup@.timer")
# The path of the program in the shipped units.
SHIPPED_PROGRAM = "/opt/avs-task-watcher/bin/watcher"
_UNIT_FOLDER = Path("/etc/systemd/system")
_USER = "avs-task-watcher.conf"
_USER_FOLDER = Path("/etc/sysusers.d")
_SETTINGS_FOLDER = Path("/etc/avs-watcher")
_COMMAND_TIMEOUT_S = 60
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - only compared


@app.command("print")
def print_units() -> None:
    """Print the units as `install` would write them."""
    for target, text in _files(_program()).items():
        typer.echo(f"# {target}\n{text}")


@app.command()
def install(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be done.")] = False,
    root: Annotated[Path, typer.Option(help="Install below this folder, for an image; runs no command.")] = Path("/"),
) -> None:
    """Write the units and make their user. Neither starts nor restarts a unit."""
    program = _program()
    _refuse_hidden(program)
    files = {root / target.relative_to("/"): text for target, text in _files(program).items()}
    whole = root == Path("/")
    commands = _commands() if whole else []
    if not dry_run and whole and os.geteuid() != 0:
        raise FixUsage("installing units needs root; run it with sudo, or use --dry-run")
    for target, text in files.items():
        is_new = not target.exists()
        if not is_new and target.read_text(encoding="utf-8", errors="replace") == text:
            typer.echo(f"unchanged: {target}")
            continue
        typer.echo(f"{'would write' if dry_run else 'wrote'} {target}{'' if is_new else ' (it exists, and differs)'}")
        if not dry_run:
            _write(target, text)
    folder = root / _SETTINGS_FOLDER.relative_to("/")
    if not dry_run:
        folder.mkdir(parents=True, exist_ok=True)
    for command in commands:
        typer.echo(f"{'would run' if dry_run else 'ran'} {' '.join(command)}")
        if not dry_run:
            _run(command)
    typer.echo(f"next: put {folder}/NAME.toml and NAME.password there, then systemctl enable --now watcher@NAME")


def _program() -> Path:
    """Return the program `watcher` of this environment. Raises FixUsage if there is none."""
    program = Path(sys.prefix) / "bin" / "watcher"
    if not program.is_file():
        raise FixUsage(f"there is no program at {program}; install this project into an environment of its own first")
    if any(char.isspace() or char in "%$\"'\\" for char in str(program)):
        raise FixUsage(f"{program} has a character that systemd reads otherwise; install it somewhere else")
    return program


def _refuse_hidden(program: Path) -> None:
    """Raise FixUsage if the units cannot see the program or its interpreter, which may lie in a home folder."""
    for path in (program, program.resolve(), Path(sys.executable).resolve()):
        hidden = next((folder for folder in _HIDDEN if path.is_relative_to(folder)), None)
        if hidden is not None:
            raise FixUsage(
                f"{path} lies below {hidden}, which the unit does not see (ProtectHome, PrivateTmp); install into an "
                "environment below /opt, made with the system's Python: /usr/bin/python3 -m venv /opt/avs-task-watcher"
            )


def _files(program: Path) -> Mapping[Path, str]:
    folder = shipped("systemd")
    files = {_USER_FOLDER / _USER: (folder / "sysusers.d" / _USER).read_text(encoding="utf-8")}
    for name in UNITS:
        text = (folder / name).read_text(encoding="utf-8")
        files[_UNIT_FOLDER / name] = text.replace(SHIPPED_PROGRAM, str(program))
    return files


def _commands() -> list[list[str]]:
    commands = [["systemd-sysusers", _USER]] if shutil.which("systemd-sysusers") else []
    # sd_booted(3): this folder exists while systemd runs.
    return [*commands, ["systemctl", "daemon-reload"]] if Path("/run/systemd/system").is_dir() else commands


def _write(target: Path, text: str) -> None:
    """Replace the file in one step, as the manager may read it at any moment. Raises FixUsage."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        part.write_text(text, encoding="utf-8")
        part.chmod(0o644)
        part.replace(target)
    except OSError as error:
        raise FixUsage(f"{target} cannot be written: {error.strerror}") from None


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - constant arguments
            command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TryLater(f"{command[0]} did not run ({type(error).__name__}); the files are written") from None
    if done.returncode:
        raise TryLater(f"{' '.join(command)} failed: {done.stderr.strip()[:500]}")
