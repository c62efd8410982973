"""The hook of a project: the table [hook] of its watcher.toml, and the runner that it makes."""

import inspect
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watcher.errors import FixConfiguration
from watcher.files import read_text
from watcher.hook.protocol import Answer
from watcher.hook.runner import Runner
from watcher.settings.hook import Hook
from watcher.settings.load import load
from watcher.settings.names import env_name
from watcher.task import Response, Task

_LIMIT_BYTES = 1024 * 1024
# Chain, contract and API have no part in a run of the hook.
_NO_CHAIN: Mapping[str, Any] = {
    "operator.api": "none",
    "chain.rpc_urls": ["http://127.0.0.1:8545"],
    "chain.chain_id": 31337,
    "task_manager.address": "0x" + "11" * 20,
    "task_manager.start_block": 0,
}


@dataclass(frozen=True, slots=True)
class Project:
    """A hook and its settings.

    Attributes:
        hook: the section [hook], with an absolute app_dir.
        config: the file it comes from; None: there is none.
    """

    hook: Hook
    config: Path | None

    def environment(self) -> dict[str, str]:
        """Return the settings of the hook, without its target, by the names of the environment."""
        return dict(_variables("hook", self.hook.model_dump(exclude_unset=True, exclude={"target", "app_dir"})))

    def runner(self) -> Runner:
        """Return the runner that the daemon would have, with one worker."""
        from watcher.daemon.parts import hook_runner

        hidden = (str(self.config.absolute()),) if self.config is not None else ()
        return hook_runner(self.hook, hidden, workers=1)


def _variables(section: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _variables(f"{section}.{name}", value)
        elif value is not None:
            yield env_name((section, name)), str(value).lower() if isinstance(value, bool) else str(value)


def open_project(config: Path, hook: str | Callable[[Task], object] | None = None) -> Project:
    """Return the project of a configuration file, which may be missing if `hook` is given.

    Args:
        config: the watcher.toml; its folder stands for the current one in a relative app_dir.
        hook: another hook than that of the file: its target, or a function that a module defines.

    Raises:
        FixConfiguration: the file or the hook cannot be used.
    """
    exists = config.exists()
    folder = config.parent.absolute()
    overrides = dict(_NO_CHAIN) | {"hook.app_dir": str(folder / (_app_dir(config) if exists else "."))}
    if isinstance(hook, str):
        overrides["hook.target"] = hook
    elif hook is not None:
        overrides["hook.target"], overrides["hook.app_dir"] = target_of(hook)
    elif not exists:
        raise FixConfiguration(
            f"there is no {config}: name the hook, or write a project with `watcher init --template DIR`"
        )
    environ = {name: value for name, value in os.environ.items() if name.startswith("WATCHER_HOOK__")}
    settings = load(config if exists else None, overrides, environ)
    return Project(settings.hook, config if exists else None)


def _app_dir(config: Path) -> str:
    """Return hook.app_dir as the file has it; "." where it has none, or the file is wrong, which `load` reports."""
    try:
        value = tomllib.loads(read_text(config, _LIMIT_BYTES)).get("hook", {}).get("app_dir", ".")
    except (ValueError, AttributeError, FixConfiguration):
        return "."
    return value if isinstance(value, str) else "."


def target_of(function: Callable[[Task], object]) -> tuple[str, str]:
    """Return target and app_dir of a function, so that a worker process can import it.

    Raises:
        FixConfiguration: it is defined inside of another function, or in no file.
    """
    name, module = getattr(function, "__qualname__", ""), getattr(function, "__module__", "")
    try:
        file = Path(inspect.getfile(inspect.unwrap(function)))
    except TypeError:
        file = None
    if file is None or not name.isidentifier() or not file.suffix == ".py":
        raise FixConfiguration(
            f"{name or function!r}: a worker process imports the hook, so that it must be a function of a module; "
            "name it as module:function"
        )
    parts = module.split(".")
    if tuple(parts) == (*file.parts[-len(parts) : -1], file.stem):
        return f"{module}:{name}", str(file.parents[len(parts) - 1])
    return f"{file.stem}:{name}", str(file.parent)


async def answer_of(runner: Runner, task: Task) -> Answer:
    """Return the hook's answer to a task. Raises AttemptFailed, and TryLater where it cannot be run."""
    verdict = await runner.run(task)
    return verdict.resp_message if isinstance(verdict, Response) else verdict
