"""The chain's verdicts on claimed tasks, sorted by what follows from them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from watcher.ledger.claims import Release, RetryAt
from watcher.operator.pacing import LeftS, SubmitPlan
from watcher.operator.route import PARKED_MARK
from watcher.task import (
    Header,
    NotYet,
    OpenTask,
    Responded,
    RespondedByUs,
    RespondedOtherwise,
    Verdict,
    WouldRevert,
)

# The pause of a task whose verdict is unclear, or that confirmation will end.
_UNCLEAR_S = 1.0


@dataclass(frozen=True, slots=True)
class Consequences:
    """The consequences of verdicts: tasks to be answered, tasks with a response, tasks to be released."""

    to_answer: list[tuple[OpenTask, Header]] = field(default_factory=list)
    answered_by_us: list[tuple[OpenTask, Responded]] = field(default_factory=list)
    answered_by_others: list[tuple[OpenTask, Responded]] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)


def consequences(
    tasks: Sequence[OpenTask], verdicts: Sequence[Verdict], plan: SubmitPlan, left_s: LeftS
) -> Consequences:
    """Return what follows from the verdicts.

    Args:
        tasks: the claimed tasks.
        verdicts: one per task.
        plan: the pauses.
        left_s: the seconds a task has left behind a block; None: no deadline.
    """
    result = Consequences()
    for task, verdict in zip(tasks, verdicts, strict=True):
        match verdict:
            case NotYet(at):
                result.to_answer.append((task, at))
            case RespondedByUs(event):
                result.answered_by_us.append((task, event))
            case RespondedOtherwise(event):
                result.answered_by_others.append((task, event))
            case WouldRevert(at, reason, park=True):
                pause_s = plan.within_s(plan.retry_max_s, left_s(task.task, at))
                result.releases.append(Release(task, RetryAt(int(pause_s * 1000)), PARKED_MARK + reason))
            case WouldRevert(at, reason):
                result.releases.append(Release(task, RetryAt(0, at.number + 1), reason))
            case _:
                # Too late, orphaned or unclear: the confirm stage decides at finality; nothing is sent.
                result.releases.append(Release(task, RetryAt(int(_UNCLEAR_S * 1000))))
    return result
