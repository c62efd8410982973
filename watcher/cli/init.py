"""`watcher init`: a commented configuration; with --hook a hook to start from, with --template a whole project."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from watcher.cli.options import DEFAULT_CONFIG, Config
from watcher.errors import FixUsage
from watcher.project.template import Language, missing_programs, write_project
from watcher.redact import hide_urls
from watcher.text import escape

HOOK_FILE = "hook.py"
HOOK_FUNCTION = "respond"
_HOOK = '''\
"""The hook of this AVS: `watcher run` calls respond() for each task, in a worker process of its own.

Change it, try it (`watcher hook try --message 0x2a`), then reload the daemon (SIGHUP). docs/hooks.md says more.
"""

import hashlib

from watcher import Task


def respond(task: Task) -> bytes:
    """Return the response to a task, as the contract's type: bytes, or 32 bytes for a number.

    Give the same response to the same task every time. Return Skip(reason) for a task without a response, or
    Later(blocks=2) to be called again; both are in the package `watcher`.
    """
    # A placeholder: the SHA-256 hash of what the task asks. Put your computation here.
    return hashlib.sha256(task.message).digest()
'''
_NEXT = """\
next, on a local devnet:
  watcher hook try --message 0x2a     run the hook on a sample task
  watcher devnet --tasks-every 5      a chain, a contract and an emulated operator; leave it running
  . devnet/env && watcher run         in a second terminal: answer its tasks"""
_OWN_AVS = "fill in what is marked, set WATCHER_OPERATOR__PASSWORD, then run `watcher check`"


def init(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[HOOK]", help="With --hook: the file to write, by default hook.py; or your own module:function."
        ),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    hook: Annotated[bool, typer.Option("--hook", help="Write a hook too, or use your own.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing configuration; never a hook.")] = False,
    template: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a project into this folder: hook, tests, settings, CI, README."),
    ] = None,
    language: Annotated[
        Language | None, typer.Option(help="The language of the project's hook; python if left out.")
    ] = None,
) -> None:
    """Write a commented watcher.toml to fill in, with --hook a hook to edit, with --template a project with tests."""
    if template is not None:
        if hook or target is not None or force:
            raise FixUsage("--template writes a new project; it goes with --language alone")
        _init_project(template, language or Language.PYTHON)
        return
    if language is not None:
        raise FixUsage("--language is the language of a project; add --template DIR")
    if hook:
        _init_with_hook(target or str(config.parent / HOOK_FILE), config, force=force)
        return
    if target is not None:
        raise FixUsage(f"{target!r}: only --hook takes a file or a module:function")
    from watcher.settings.template import render

    _write(config, render(), force=force)
    typer.echo(f"wrote {config}; {_OWN_AVS}")


def _init_project(folder: Path, language: Language) -> None:
    for path in write_project(folder, language):
        typer.echo(f"wrote {escape(str(folder / path))}")
    typer.echo(
        f"next: cd {escape(shlex.quote(str(folder)))} && python -m pytest\n"
        "(needs avs-task-watcher[testing]; README.md there says more)"
    )
    if missing := missing_programs(language):
        typer.echo(f"not on the PATH, and needed: {missing}")


def _init_with_hook(hook: str, config: Path, *, force: bool) -> None:
    """Write hook and configuration; keep either if it exists.

    Raises FixUsage if `hook` is neither a Python file nor a module:function, or a file cannot be written.
    """
    from watcher.settings.template import render

    if ":" in hook:
        target, folder = _target(hook), Path()
    else:
        path = _hook_file(hook)
        target, folder = f"{path.stem}:{HOOK_FUNCTION}", path.parent
        if path.exists():
            typer.echo(f"kept {path}; its function {HOOK_FUNCTION}() is the hook")
        else:
            _write(path, _HOOK, force=False)
            typer.echo(f"wrote {path}: a placeholder, to be replaced by your computation")
    app_dir = "." if folder.resolve() == Path.cwd() else str(folder.resolve())
    if config.exists() and not force:
        typer.echo(f'kept {config}; set target = "{hide_urls(target)}" and app_dir = "{app_dir}" in its table [hook]')
    else:
        _write(config, render({"hook.target": target, "hook.app_dir": app_dir}), force=force)
        typer.echo(f"wrote {config} for the hook {hide_urls(target)}")
    typer.echo(_NEXT)
    typer.echo(f"for your own AVS: in {config}, {_OWN_AVS}")


def _target(text: str) -> str:
    from watcher.settings.targets import hook_target

    try:
        return hook_target(text)
    except ValueError as error:
        raise FixUsage(f"--hook {hide_urls(text)}: {error}") from None


def _hook_file(text: str) -> Path:
    path = Path(text)
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise FixUsage(f"--hook {text}: must be a Python file such as {HOOK_FILE}, or module:function")
    return path


def _write(path: Path, text: str, *, force: bool) -> None:
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise FixUsage(f"{path} exists; use --force to overwrite it, or --config for another name") from None
    except OSError as error:
        raise FixUsage(f"{path} cannot be written: {error.strerror}") from None
