"""The options of `watcher run`, as the daemon takes them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of `watcher run`.

    Attributes:
        until_idle: stop once nothing is left to do until the chain moves.
        release_held: answer the tasks that a restored ledger holds back.
        progress: called with cursor and head, in blocks.
        config: the configuration file or folder, which the hook must not read.
        trace: log each step of each task.
    """

    until_idle: bool = False
    release_held: bool = False
    progress: Progress = lambda _block, _head: None
    config: Path | None = None
    trace: bool = False
