"""The plugin of pytest: the fixtures `make_task`, `run_hook`, `replay_cases` and `devnet`.

pytest imports this file in every run where the package is installed, so that it imports nothing but pytest; what a
fixture needs is imported when a test asks for it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from watcher.hook.protocol import Answer
    from watcher.project.own_hook import Project
    from watcher.task import Task
    from watcher.testing.cases import ReplayCase
    from watcher.testing.local import LocalDevnet
    from watcher.testing.portal import Portal

_INI = "watcher_config"


class RunHook(Protocol):
    """The fixture `run_hook`: `run_hook(task)`, or `run_hook(hook, task)` with another hook."""

    def __call__(self, *hook_and_task: Any) -> "Answer":
        """Return the answer of the hook to a task, or to a message (bytes).

        Raises:
            AttemptFailed: the daemon would count the run as a failure.
            FixConfiguration: the daemon would not accept the hook.
        """


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option that names the project's settings."""
    parser.addini(_INI, "The watcher.toml of the hook under test, relative to rootdir.", default="watcher.toml")


@pytest.fixture(scope="session")
def watcher_config(pytestconfig: pytest.Config) -> Path:
    """The configuration file whose table [hook] the fixtures use: the ini option watcher_config."""
    return pytestconfig.rootpath / str(pytestconfig.getini(_INI))


@pytest.fixture(scope="session")
def watcher_hook() -> str | None:
    """The target of the hook under test; None: that of the configuration file. Override it in a conftest.py."""
    return None


@pytest.fixture(scope="session")
def _watcher_portal() -> "Iterator[Portal]":
    from watcher.testing.portal import Portal

    with Portal() as portal:
        yield portal


@pytest.fixture(scope="session")
def _watcher_project(watcher_config: Path, watcher_hook: Any) -> "Callable[[Any], Project]":
    from watcher.errors import FixConfiguration
    from watcher.project.own_hook import open_project

    def project(hook: Any) -> "Project":
        chosen = watcher_hook if hook is None else hook
        if chosen is None and not watcher_config.exists():
            raise FixConfiguration(
                f"there is no {watcher_config}: name the hook, or set the ini option {_INI} of pytest"
            )
        return open_project(watcher_config, chosen)

    return project


@pytest.fixture(scope="session")
def make_task() -> "Callable[..., Task]":
    """Make a task with plausible values: `watcher.testing.make_task`."""
    from watcher.testing.tasks import make_task

    return make_task


@pytest.fixture(scope="session")
def replay_cases() -> "Callable[..., list[ReplayCase]]":
    """Read recorded tasks from a file: `watcher.testing.replay_cases`, which parametrize can call, too."""
    from watcher.testing.cases import replay_cases

    return replay_cases


@pytest.fixture(scope="session")
def run_hook(
    _watcher_portal: "Portal",
    _watcher_project: "Callable[[Any], Project]",
) -> Iterator[RunHook]:
    """Run the hook as the daemon would: in its worker process or service, with its limits and its verdicts."""
    from watcher.testing.runners import Runners

    with Runners(_watcher_portal, _watcher_project) as runners:
        yield runners.run


@pytest.fixture(scope="session")
def devnet(
    _watcher_portal: "Portal",
    _watcher_project: "Callable[[Any], Project]",
    tmp_path_factory: pytest.TempPathFactory,
) -> "Iterator[LocalDevnet]":
    """Run the real loop: anvil, contract, operators, hosted API and daemon. Skips where there is no anvil."""
    from watcher.errors import FixConfiguration
    from watcher.testing.local import LocalDevnet, check_anvil

    project = _watcher_project(None)
    try:
        check_anvil(_watcher_portal)
    except FixConfiguration as error:
        pytest.skip(str(error))
    with LocalDevnet(_watcher_portal, project, tmp_path_factory.mktemp("devnet")) as net:
        yield net
