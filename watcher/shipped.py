"""Folders that travel with the program: inside the package in a wheel, beside it in a checkout."""

from importlib import resources
from pathlib import Path


def shipped(name: str) -> Path:
    """The folder `migrations`, `systemd` or `examples`."""
    package = Path(str(resources.files("watcher")))
    inside = package / name
    return inside if inside.is_dir() else package.parent / name
