"""One record, one line, without secrets, whatever is logged and whoever reads it."""

import ast
import json
import logging
import os
import pty
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger

from watcher.daemon.log import set_up
from watcher.errors import FixConfiguration
from watcher.redact import Redactor

ROOT = Path(__file__).parents[2]
PASSWORD = "hunter2222"
RPC_URL = "https://u:pass99word@rpc.example/v2/a1B2c3D4e5F6"
SECRETS = (PASSWORD, RPC_URL)
SEEN = (PASSWORD, "pass99word", "a1B2c3D4e5F6", b64encode(f"admin:{PASSWORD}".encode()).decode())
Lines = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, complaints = root.handlers[:], root.level, logging.raiseExceptions
    yield
    logger.remove()
    logger.configure(patcher=lambda _: None)
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level, logging.raiseExceptions = handlers, level, complaints


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[IO[str]]:
    with (tmp_path / "log").open("w") as file:
        yield file


@pytest.fixture
def lines(stream: IO[str]) -> Lines:
    def _lines() -> list[str]:
        stream.flush()
        return Path(stream.name).read_text().splitlines()

    return _lines


def as_journal(stream: IO[str]) -> str:
    """How the service manager would name this stream, were it the journal's."""
    stat = os.fstat(stream.fileno())
    return f"{stat.st_dev}:{stat.st_ino}"


def run(script: str, *, environ: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
    head = (
        "import logging, sys\nfrom loguru import logger\nfrom watcher.daemon.log import report_crashes, set_up\n"
        "from watcher.redact import Redactor\n"
    )
    variables = {name: value for name, value in os.environ.items() if name not in ("JOURNAL_STREAM", "NO_COLOR")}
    return subprocess.Popen(
        [sys.executable, "-c", head + script],
        env={**variables, **(environ or {})},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **options,
    )


def test_text_shows_time_level_event_and_fields(stream: IO[str], lines: Lines) -> None:
    set_up("info", "text", environ={}, stream=stream)
    logger.info("task.landed: the answer is on the chain", task=17, tx=b"\xab", took_s=1 / 3, reason='a "b"', late=None)
    logger.debug("task.seen: not shown")
    (line,) = lines()
    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    sentence = "task.landed: the answer is on the chain"
    assert rest == f'INFO    {sentence} task=17 tx=0xab took_s=0.333333 reason="a \\"b\\"" late=none'


def test_library_is_named_and_has_no_event(stream: IO[str], lines: Lines) -> None:
    set_up("info", "text", environ={}, stream=stream)
    logging.getLogger("library").warning("task.landed: a lie")
    assert lines()[0].endswith("WARNING library: task.landed: a lie")


def test_under_journald_a_line_begins_with_its_priority_and_has_no_time(stream: IO[str], lines: Lines) -> None:
    set_up("debug", "auto", environ={"JOURNAL_STREAM": as_journal(stream)}, stream=stream)
    logger.debug("a")
    logger.info("b")
    logger.warning("c")
    logger.error("d")
    logger.critical("e")
    assert [line[:3] + line[-1] for line in lines()] == ["<7>a", "<6>b", "<4>c", "<3>d", "<2>e"]
    assert lines()[0].endswith("test_log: a")
    assert lines()[0].startswith("<7>tests.unit.test_log") or lines()[0].startswith("<7>test_log")


@pytest.mark.parametrize("inherited", ["8:1", "nonsense", "8:1:2", ""])
def test_file_is_no_journal_when_the_parent_wrote_to_one(inherited: str, stream: IO[str], lines: Lines) -> None:
    """Whatever a service starts inherits the variable, and may have sent its errors elsewhere."""
    set_up("info", "auto", environ={"JOURNAL_STREAM": inherited}, stream=stream)
    logger.info("a")
    (line,) = lines()
    assert line.split()[1] == "INFO"


def test_json_is_one_flat_object_a_line(stream: IO[str], lines: Lines) -> None:
    set_up("info", "json", environ={"JOURNAL_STREAM": as_journal(stream)}, stream=stream)
    logger.info("task.answered: answered", task=17, raw=b"\x01\xff", level="x", late=None)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("failed")
    first, second = map(json.loads, lines())
    assert {
        "level": "info",
        "event": "task.answered",
        "message": "answered",
        "task": 17,
        "raw": "0x01ff",
        "extra_level": "x",
    }.items() <= first.items()
    assert first["late"] is None
    assert not any(isinstance(value, (dict, list)) for value in (*first.values(), *second.values()))
    assert second["exception"].startswith("ValueError: two\\nlines | ")


def test_an_exception_is_one_line_with_its_cause_and_no_local_values(stream: IO[str], lines: Lines) -> None:
    set_up("info", "text", environ={}, stream=stream)

    def fails(token: str) -> None:
        raise KeyError(len(token))

    try:
        try:
            fails("local" + "value")
        except KeyError as error:
            raise RuntimeError(f"no answer from {RPC_URL}") from error
    except RuntimeError:
        logger.exception("the node failed")
    (line,) = lines()
    assert "the node failed: RuntimeError: no answer from https://rpc.example/... | " in line
    assert "KeyError: 10" in line
    assert 'fails("local" + "value")' in line  # the source line, which is ours
    assert "localvalue" not in line


@settings(max_examples=150)
@given(st.text(), st.text(), st.sampled_from(["text", "json"]))
def test_text_from_outside_stays_on_its_line(message: str, reason: str, form: str) -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader:
        with os.fdopen(write, "w") as stream:
            set_up("info", form, redactor=Redactor(SECRETS), environ={}, stream=stream)
            logger.bind(task=reason).info(f"{message}{PASSWORD}")
            logger.info("{}: {reason}", message, reason=reason)
            logging.getLogger("library").warning("%s {} {0.__class__}", message)
            logger.opt(exception=ValueError(message + RPC_URL)).error("x")
            logger.remove()
        data = reader.read().decode()
    assert data.count("\n") == 4
    assert all(line.isprintable() for line in data.split("\n"))
    assert not any(secret in data for secret in SEEN)


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_form_of_a_secret_is_logged_at_any_level(stream: IO[str], lines: Lines, form: str) -> None:
    set_up("trace", form, redactor=Redactor(SECRETS), environ={}, stream=stream)
    header = "Basic " + b64encode(f"admin:{PASSWORD}".encode()).decode()
    for text in (*SECRETS, header, f"url='/v2/a1B2c3D4e5F6', {RPC_URL}?x=1"):
        logger.trace("{}", text)
        logger.bind(url=text, headers={"Authorization": text}).info("sent")
        logging.getLogger("web3").warning("failed: %s", text)
        try:
            raise ConnectionError(text, {"password": text})
        except ConnectionError:
            logger.exception("lost")
            logging.getLogger("aiohttp").exception("lost {}")
    assert len(lines()) == 4 * 5
    assert not any(secret in line for line in lines() for secret in SEEN)


def test_libraries_speak_from_warning_on_under_their_own_name(stream: IO[str], lines: Lines) -> None:
    set_up("trace", "json", environ={}, stream=stream)
    for name in ("web3", "aiohttp.client", "apscheduler", "sqlalchemy.engine", "httpx", "asyncio", "anything"):
        logging.getLogger(name).info("quiet")
        logging.getLogger(name).warning("heard {}")
    records = [json.loads(line) for line in lines()]
    assert [entry["message"] for entry in records] == ["heard {}"] * 7
    assert records[1]["logger"] == "aiohttp.client"


def test_a_value_that_cannot_be_shown_costs_its_record_only(stream: IO[str], lines: Lines) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    set_up("info", "text", environ={}, stream=stream)
    logger.bind(task=Broken()).info("first")
    logging.getLogger("library").warning("%s", Broken())
    logging.getLogger("library").warning("%d of %d", 1)
    logger.info("last")
    assert lines()[-1].endswith("last")
    assert "could not be shown: RuntimeError" in lines()[0]


def test_unknown_level_is_an_error_of_configuration() -> None:
    with pytest.raises(FixConfiguration, match="must be"):
        set_up("loud")


def test_a_terminal_gets_colours_unless_it_asks_for_none() -> None:
    for environ, form, coloured in (({}, "auto", True), ({"NO_COLOR": "1"}, "auto", False), ({}, "text", False)):
        main, terminal = pty.openpty()
        process = run(f"set_up('info', {form!r}); logger.info('hello')", environ=environ, stderr=terminal)
        process.communicate(timeout=30)
        os.close(terminal)
        printed = os.read(main, 4096).decode()
        os.close(main)
        assert "hello" in printed
        assert ("\x1b[" in printed) is coloured


def test_log_goes_on_when_its_reader_stalls() -> None:
    script = """
set_up("info", "text")
for number in range(20_000):
    logger.info("line {}", number)
print("done", flush=True)
sys.stdin.readline()
logger.info("after")
"""
    process = run(script, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"done\n"  # although nobody has read a line yet
    os.set_blocking(process.stderr.fileno(), False)
    early = process.stderr.read()
    os.set_blocking(process.stderr.fileno(), True)
    process.stdin.write(b"go on\n")
    process.stdin.close()
    late = process.stderr.read().decode()
    assert process.wait(timeout=30) == 0
    assert b"line 0\n" in early
    assert b"line 19999\n" not in early
    kept = early.count(b": line ") - (not early.endswith(b"\n"))
    line = next(line for line in late.splitlines() if "were lost" in line)
    assert int(line.split()[0]) + kept == 20_000
    assert late.endswith("after\n")


@pytest.mark.parametrize("broken", ["closed", "full", "nobody"])
def test_an_error_stream_that_fails_stops_nothing(broken: str) -> None:
    breaks = {
        "closed": "import os; os.close(2)",
        "full": "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 2)",
        "nobody": "import os; r, w = os.pipe(); os.close(r); os.dup2(w, 2)",
    }
    script = f"{breaks[broken]}\nset_up('info', 'text')\nlogger.info('x')\nlogging.error('y')\nprint('alive')"
    process = run(script, stderr=subprocess.DEVNULL)
    out, _ = process.communicate(timeout=30)
    assert out == b"alive\n"
    assert process.returncode in (0, 120)  # 120: Python could not flush the stream at its own end


def test_uncaught_exceptions_are_logged_without_secrets() -> None:
    script = f"""
import threading
set_up("info", "text", redactor=Redactor([{PASSWORD!r}]))
report_crashes()
class Dying:
    def __del__(self): raise ValueError("finalizer " + "{PASSWORD}")
def work(): raise ValueError("thread " + "{PASSWORD}")
thread = threading.Thread(target=work); thread.start(); thread.join()
dying = Dying(); del dying
raise ValueError("main {PASSWORD}")
"""
    process = run(script, stderr=subprocess.PIPE)
    _, err = process.communicate(timeout=30)
    logged = err.decode().splitlines()
    assert process.returncode == 1
    assert len(logged) == 3
    for line, where in zip(logged, ("thread", "finalizer", "main"), strict=True):
        assert f"ValueError: {where} [redacted]" in line
        assert PASSWORD not in line


_LEVELS = {"trace", "debug", "info", "success", "warning", "error", "critical", "exception"}
_LINE = re.compile(r"[a-z]+(\.[a-z_]+)+: [^{}]+")


def _logging_calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield (place, call) for each call of a logging method of loguru's logger in the package."""
    for path in sorted((ROOT / "watcher").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LEVELS):
                continue
            owner = node.func.value
            while isinstance(owner, (ast.Call, ast.Attribute)):
                owner = owner.func if isinstance(owner, ast.Call) else owner.value
            if isinstance(owner, ast.Name) and owner.id == "logger":
                yield f"{path.relative_to(ROOT / 'watcher')}:{node.lineno}", node


def _message(call: ast.Call) -> str | None:
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def test_every_logging_call_has_a_constant_message() -> None:
    calls = list(_logging_calls())
    assert len(calls) > 50
    assert [place for place, call in calls if _message(call) is None] == []


def test_every_logging_call_names_an_event_and_gives_values_as_fields() -> None:
    wrong = [
        place for place, call in _logging_calls() if not (len(call.args) == 1 and _LINE.fullmatch(_message(call) or ""))
    ]
    assert wrong == []
