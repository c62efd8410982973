"""Help for the tests of hooks: tasks, the daemon's way to run a hook, a local devnet, and cases from recorded tasks.

    from watcher.testing import make_task, run_hook

    def test_squares() -> None:
        assert run_hook(respond, make_task((3).to_bytes(32, "big"))) == (9).to_bytes(32, "big")

The same names are fixtures of pytest (`watcher.testing.plugin`). Each part is imported when it is first used, because
pytest imports this package in every run.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from watcher.testing.cases import ReplayCase, replay_cases
    from watcher.testing.hook_run import run_hook
    from watcher.testing.local import LocalDevnet
    from watcher.testing.plugin import RunHook
    from watcher.testing.tasks import make_task
    from watcher.testing.values import encode

__all__ = ["LocalDevnet", "ReplayCase", "RunHook", "encode", "make_task", "replay_cases", "run_hook"]

_MODULES = {
    "LocalDevnet": "local",
    "ReplayCase": "cases",
    "RunHook": "plugin",
    "encode": "values",
    "make_task": "tasks",
    "replay_cases": "cases",
    "run_hook": "hook_run",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
