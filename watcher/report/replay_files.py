"""The reports of a replay for other programs: JUnit XML for a CI server, and Markdown for a pull request."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from xml.sax.saxutils import escape, quoteattr

from watcher.errors import FixUsage
from watcher.report.payload import Payload
from watcher.report.replay import Replayed, Result, Summary
from watcher.text import one_line

_VALUE_LIMIT_CHARS = 120
_ROWS_LIMIT = 100
_REASON_LIMIT_CHARS = 500


class JUnitFile:
    """A JUnit report, one test case for each task. Cases go to a temporary file first, because their number leads.

    As a context manager it raises FixUsage if the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cases: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        refuse_unwritable(self._path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cases.close()

    def add(self, replayed: Replayed) -> None:
        """Add one task."""
        self._cases.write(_case(replayed))

    def write(self, summary: Summary) -> None:
        """Write the file. Raises FixUsage if that fails."""
        new = summary.counts[Result.NEW]
        head = f'tests="{summary.tasks}" failures="{summary.differences}" skipped="{new}"'
        self._cases.seek(0)
        try:
            with self._path.open("w", encoding="utf-8") as file:
                file.write('<?xml version="1.0" encoding="UTF-8"?>\n')
                file.write(f"<testsuites {head}><testsuite name={quoteattr(_xml(summary.target))} {head}>\n")
                version = quoteattr(_xml(summary.version))
                file.write(f'<properties><property name="hook_version" value={version}/></properties>\n')
                shutil.copyfileobj(self._cases, file)
                file.write("</testsuite></testsuites>\n")
        except OSError as problem:
            raise FixUsage(f"{self._path} cannot be written ({problem.strerror})") from None


def refuse_unwritable(path: Path) -> None:
    """Raise FixUsage if a report cannot be written there: better before a long replay than after it."""
    try:
        with path.open("a", encoding="utf-8"):
            pass
    except (OSError, ValueError) as problem:
        raise FixUsage(f"{path} cannot be written ({getattr(problem, 'strerror', None) or problem})") from None


def _case(replayed: Replayed) -> str:
    seconds = (replayed.duration_ms or 0) / 1000
    begin = f'<testcase classname="replay" name="task {replayed.task_index}" time="{seconds:.3f}"'
    if replayed.counts:
        message = quoteattr(_xml(headline(replayed)))
        text = "\n".join(f"{name}: {value}" for name, value in sides(replayed))
        return f"{begin}><failure message={message}>{escape(_xml(text))}</failure></testcase>\n"
    if replayed.result is Result.NEW:
        return f'{begin}><skipped message="not answered before"/></testcase>\n'
    return f"{begin}/>\n"


def _xml(text: str) -> str:
    """Return text without the characters that XML 1.0 does not know."""
    return "".join(
        char if char in "\t\n" or " " <= char <= "\ud7ff" or "\ue000" <= char <= "\ufffd" or char > "\uffff" else "?"
        for char in text
    )


def headline(replayed: Replayed) -> str:
    """Return one line about a difference."""
    if replayed.result is Result.DIFFERENT:
        place = "" if replayed.first_byte is None else f", from byte {replayed.first_byte} on"
        return f"another answer than before{place}"
    reason = one_line(replayed.reason, _REASON_LIMIT_CHARS)
    return f"{replayed.result}, and answered before" + (f": {reason}" if reason else "")


def sides(replayed: Replayed) -> list[tuple[str, str]]:
    """Return the answers of a task, each with its name; an answer that was recorded and accepted is there once."""
    before = [("recorded", replayed.recorded), ("accepted", replayed.accepted)]
    if replayed.recorded == replayed.accepted:
        before = [("recorded and accepted", replayed.recorded)]
    return [(name, answer.text) for name, answer in (*before, ("new", replayed.answer)) if answer is not None]


def markdown(summary: Summary) -> Iterator[str]:
    """Yield the lines of a Markdown report."""
    verdict = "no difference" if summary.ok else f"{summary.differences} differences"
    yield f"## Replay: {verdict}"
    yield ""
    yield f"`{_cell(summary.target)}` ({_cell(summary.version)}) on {summary.tasks} tasks of the {summary.source}."
    yield ""
    yield "| " + " | ".join(Result) + " | unlike the chain |"
    yield "|" + "---|" * (len(Result) + 1)
    yield "| " + " | ".join(str(summary.counts[result]) for result in Result) + f" | {summary.unlike_chain} |"
    yield ""
    yield "| ms | p50 | p90 | p99 |"
    yield "|---|---|---|---|"
    for name, timing in (("recorded", summary.recorded_ms), ("replayed", summary.replayed_ms)):
        yield f"| {name} | " + " | ".join(_number(value) for value in timing.percentiles().values()) + " |"
    if not summary.kept:
        return
    yield ""
    yield "| task | difference | recorded | accepted | new |"
    yield "|---|---|---|---|---|"
    cases = sorted(summary.kept, key=lambda replayed: replayed.task_index)[:_ROWS_LIMIT]
    for case in cases:
        values = (_value(case.recorded), _value(case.accepted), _value(case.answer))
        yield f"| {case.task_index} | {_cell(headline(case))} | {' | '.join(values)} |"
    if summary.differences > len(cases):
        yield f"\nand {summary.differences - len(cases)} more"


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _value(payload: Payload | None) -> str:
    return "" if payload is None else f"`{_cell(payload.text)}`"


def _cell(text: str) -> str:
    return one_line(text, _VALUE_LIMIT_CHARS).replace("|", "¦").replace("`", "'").replace("<", "‹")
