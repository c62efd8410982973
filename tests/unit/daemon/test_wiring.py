"""What the wiring puts around a hook run."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.kit.clocks import SetClock
from watcher.chain.convention.convention import convention
from watcher.chain.source import Source
from watcher.daemon.wiring import Outside, _wrap
from watcher.errors import AttemptFailed
from watcher.health.metrics import Metrics
from watcher.health.observers import Observer
from watcher.task import Response, Task
from watcher.testing import make_task


async def test_answer_of_a_wrong_type_counts_as_a_failure_of_the_hook() -> None:
    """Else a hook that answers every task wrongly would look well while all tasks fail."""

    async def run_hook(task: Task) -> Response:
        return Response(b"no uint256", "hook:respond@0", 1)

    preset = SimpleNamespace(fields=lambda _task: {}, answer=convention("incredible-squaring").answer)
    source = Source(cast("Any", None), cast("Any", SimpleNamespace(convention=preset)), cast("Any", None), SetClock())
    observer = Observer(SetClock(), Metrics())
    calls = _wrap(source, Outside(run_hook, observer=observer), with_dry_run=False)
    assert calls.run_hook is not None
    with pytest.raises(AttemptFailed):
        await calls.run_hook(make_task(b""))
    assert observer.hook.failures == 1
