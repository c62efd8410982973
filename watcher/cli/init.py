"""`watcher init`: a commented configuration to start from."""

from pathlib import Path
from typing import Annotated

import typer

from watcher.cli.options import DEFAULT_CONFIG, Config
from watcher.errors import FixUsage


def init(
    config: Config = DEFAULT_CONFIG,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a commented watcher.toml, to be filled in."""
    from watcher.settings.template import render

    _write(config, render(), force=force)
    typer.echo(f"wrote {config}; fill in what is marked, set WATCHER_OPERATOR__PASSWORD, then run `watcher check`")


def _write(path: Path, text: str, *, force: bool) -> None:
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise FixUsage(f"{path} is there already; use --force to overwrite it, or --config for another name") from None
    except OSError as error:
        raise FixUsage(f"{path} cannot be written: {error.strerror}") from None
