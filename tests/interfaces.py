"""The interfaces that users hold, as one value: commands, settings, states, metrics, tables and fields of JSON.

`tests/interfaces.json` holds the description of the last release; `tests/unit/test_interfaces.py` compares. After an
addition run `python -m tests.interfaces`: it adds what is new, and refuses while something is gone or different.
"""

import io
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from typer.main import get_command

from docs.generate import pages
from watcher import errors
from watcher.cli import check
from watcher.cli.main import application
from watcher.cli.trial import Trial
from watcher.doctor.finding import Finding
from watcher.health.metrics import Metrics
from watcher.health.probe_fields import readyz_fields
from watcher.health.verdict import Condition, Health, Service, Status
from watcher.hook.footprint import Footprint
from watcher.ledger.periods import RUNNING, Period
from watcher.ledger.tables import metadata
from watcher.report.availability import availability
from watcher.report.listing import story_fields, value_fields
from watcher.report.payload import Decoder, Payload, payload
from watcher.report.proof import Difference as ProofDifference
from watcher.report.proof import Proof, Sender, Unchecked
from watcher.report.replay import Replayed, Summary
from watcher.report.service_level import Result, ServiceLevel, Unanswered
from watcher.report.service_level_fields import Subject, csv_lines, document_of
from watcher.report.shadow import Difference, ShadowReport
from watcher.report.story import AttemptLine, ChainAnswer, Step, Story
from watcher.report.task_columns import FIELDS as TASK_FIELDS
from watcher.settings.problems import FIELDS
from watcher.state import State
from watcher.task import Response
from watcher.testing import make_task

FILE = Path(__file__).with_suffix(".json")
Description = Mapping[str, Any]


def description() -> dict[str, Any]:
    """Return the interfaces of the program as it is."""
    return {
        "commands": dict(_commands("watcher", get_command(application()))),
        "exit codes": {
            name: error.exit_code
            for name, error in sorted(vars(errors).items())
            if isinstance(error, type) and issubclass(error, errors.WatcherError)
        },
        "settings": {".".join(key): pages.value_and_default(*key) for key in FIELDS},
        "states": {state.value: "state" for state in State},
        "metrics": {metric.name: {"kind": metric.kind, "labels": [*metric.labels]} for metric in Metrics().described},
        "tables": {table.name: {c.name: str(c.type) for c in table.columns} for table in metadata.sorted_tables},
        "json": _json(),
    }


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None or getattr(command, "invoke_without_command", False):
        yield path, {_name(param): _describe_option(param) for param in command.params if param.name != "help"}
    for name, child in (inner or {}).items():
        yield from _commands(f"{path} {name}", child)


def _name(param: Any) -> str:
    names = (*param.opts, *param.secondary_opts) if param.param_type_name == "option" else (param.name.upper(),)
    return ", ".join(names)


def _describe_option(param: Any) -> dict[str, Any]:
    default = param.default if isinstance(param.default, (str, int, float, bool, type(None))) else str(param.default)
    return {"required": param.required, "default": default, "is_flag": getattr(param, "is_flag", False)}


class _AnyRow(SimpleNamespace):
    """A row that has every column."""

    def __getattr__(self, name: str) -> None:
        return None


def _json() -> dict[str, Any]:
    row: Any = _AnyRow()
    answered: Any = SimpleNamespace(message=b"", response=None)
    story = story_fields([row], [row])
    work = Health(0, (Service("store", Status.UP, "", 0),), (Condition("store", "", 0),))
    ready: Any = readyz_fields(work, ready=True, stuck=None)
    return {
        "tasks list": _fields(dict.fromkeys(TASK_FIELDS)),
        "tasks show": _fields({**story, **value_fields(answered, Decoder())}),
        "tasks show: journal": _fields(story["journal"][0]),
        "tasks show: attempt_log": _fields(story["attempt_log"][0]),
        "check": _fields(_checked()[0]),
        **_prove(),
        **{
            name: {field.name: str(field.type) for field in fields(kind)}
            for name, kind in {
                "explain": Story,
                "explain: timeline": Step,
                "explain: attempts": AttemptLine,
                "explain: chain_answers": ChainAnswer,
                "explain: message, answer": Payload,
            }.items()
        },
        "explain: in one line": _fields({"summary": ""}),
        "replay": _fields(Summary("", "", "").as_json()),
        "replay: cases": {field.name: str(field.type) for field in fields(Replayed)},
        "shadow report": _fields(ShadowReport().as_json()),
        "shadow report: differences": {field.name: str(field.type) for field in fields(Difference)},
        "hook try": _fields(_tried()),
        "hook try: memory": _fields(_tried()["memory"]),
        **_report(),
        "/readyz": _fields(ready),
        "/readyz: services": _fields(ready["services"]["store"]),
        "/readyz: troubles": _fields(ready["troubles"][0]),
    }


def _prove() -> dict[str, Any]:
    derived = {"answered": int, "missed": int, "not_yet_answered": int, "ok": bool}
    values = {"prove: differences": ProofDifference, "prove: senders": Sender, "prove: unchecked": Unchecked}
    return {
        "prove": {
            **{field.name: str(field.type) for field in fields(Proof)},
            **{name: str(kind) for name, kind in derived.items()},
            "complete": "bool | None",
        },
        **{name: {field.name: str(field.type) for field in fields(kind)} for name, kind in values.items()},
    }


def _report() -> dict[str, Any]:
    period = Period(RUNNING, 0, 1000), Period("store", 0, 1000)
    level = ServiceLevel(0, 1000, 1000)
    level.unanswered.append(Unanswered(0, Result.MISSED, None, ""))
    level.responders[None, True] = level.outcomes["post", "accepted", 200] = 1
    document = document_of(Subject(0, "", 0, 0, 0), level, availability(period, 0, 1000))
    seen = document["availability"]
    return {
        "report": _fields(document),
        "report: steps": _fields(document["steps"][0]),
        "report: answered_by": _fields(document["answered_by"][0]),
        "report: attempts.outcomes": _fields(document["attempts"]["outcomes"][0]),
        "report: not_in_time": _fields(document["not_in_time"][0]),
        "report: availability": _fields(seen),
        "report: availability.parts": _fields(seen["parts"][0]),
        "report: availability.outages": _fields(seen["outages"][0]),
        "report: CSV": _fields(next(csv_lines(level))),
    }


def _checked() -> Any:
    with redirect_stdout(io.StringIO()) as out:
        check._print([Finding("node", "head", "ok", "at block 1")])
    return json.loads(out.getvalue())


def _tried() -> dict[str, Any]:
    memory = Footprint(0, 0)
    trial = Trial("", make_task(b""), Response(b"", "", 0), loaded=memory, ended=memory)
    return trial.as_json(payload(b""), Decoder())


def _fields(document: Mapping[str, Any]) -> dict[str, str]:
    return dict.fromkeys(document, "field")


def changes(stored: Any, present: Any, path: str = "") -> Iterator[str]:
    """Yield a line for everything of `stored` that is gone or different."""
    if isinstance(stored, dict) and isinstance(present, dict):
        for name, value in stored.items():
            place = f"{path} / {name}" if path else name
            if name not in present:
                yield f"{place} is gone"
            else:
                yield from changes(value, present[name], place)
    elif stored != present:
        yield f"{path} was {stored!r} and is {present!r}"


def additions(stored: Any, present: Any, path: str = "") -> Iterator[str]:
    """Yield a line for everything of `present` that `stored` does not know."""
    if isinstance(stored, dict) and isinstance(present, dict):
        for name, value in present.items():
            place = f"{path} / {name}" if path else name
            if name not in stored:
                yield place
            else:
                yield from additions(stored[name], value, place)


def main() -> None:
    """Write the description, unless something is gone or different."""
    present = description()
    wrong = list(changes(json.loads(FILE.read_text()), present)) if FILE.exists() else []
    if wrong:
        sys.exit("users rely on these:\n" + "\n".join(wrong))
    FILE.write_text(json.dumps(present, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
