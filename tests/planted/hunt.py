"""Plant a bug into a copy of the tree and let the suites find it, the cheapest first.

`python -m tests.planted` runs all and prints who caught what.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.planted.mutants import Mutant

ROOT = Path(__file__).parents[2]
_COPIED = ("watcher", "migrations", "tests", "examples", "contracts", "systemd", "docs", "pyproject.toml")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".hypothesis", "node_modules")
_TIMEOUT_S = 600
_SCENARIOS = "1000"

_PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider")
SUITES: Mapping[str, Sequence[str]] = {
    "simulation": ("-m", "tests.simulation", "--scenarios", _SCENARIOS, "--until-wrong"),  # and the seconds
    "regressions": (*_PYTEST, "tests/simulation/test_regressions.py"),
    "unit": (*_PYTEST, "tests/unit/operator/test_reply.py"),
    "ledger": (*_PYTEST, "tests/conformance", "-k", "not postgresql and not test_poolers"),
    "batches": (*_PYTEST, "tests/conformance/test_batches.py", "-k", "not postgresql"),
    "coverage": (*_PYTEST, "tests/conformance/test_coverage.py", "-k", "not postgresql"),
    "wakes": (*_PYTEST, "tests/conformance/test_wakes.py", "-k", "not postgresql"),
    "prefetch": (
        *_PYTEST,
        "tests/unit/chain/test_view_cache.py",
        "tests/unit/chain/rpc/test_poll.py",
        "tests/unit/chain/rpc/test_prefetch.py",
        "tests/integration/test_prefetch.py",
    ),
    "structure": (*_PYTEST, "tests/conformance/test_schema.py", "-k", "structure"),
    "writer": (*_PYTEST, "tests/integration/test_ledger_writer.py"),
    "durability": (*_PYTEST, "tests/integration/test_ledger_durability.py"),
    "replicas": (*_PYTEST, "tests/conformance/test_replicas.py", "tests/conformance/test_replica_claims.py"),
    "submit": (*_PYTEST, "tests/unit/operator/test_limit.py", "tests/integration/test_submit.py"),
    "nodes": (*_PYTEST, "tests/integration/test_node_endpoints.py"),
    "evidence": (
        *_PYTEST,
        "tests/unit/chain/rpc/test_evidence.py",
        "tests/unit/chain/rpc/test_agreement.py",
        "tests/unit/chain/rpc/test_finality.py",
        "tests/unit/chain/rpc/test_unreached.py",
        "tests/conformance/test_marks.py",
        "-k",
        "not postgresql",
    ),
    "routes": (*_PYTEST, "tests/unit/operator/test_route.py"),
    "ends": (*_PYTEST, "tests/integration/test_end_states.py"),
    "client": (
        *_PYTEST,
        "tests/unit/operator/test_reply_hostile.py",
        "tests/integration/test_operator_client.py",
    ),
    "contract": (*_PYTEST, "tests/unit/chain/test_contract.py"),
    "dry run": (*_PYTEST, "tests/integration/test_dry_run.py"),
    "side questions": (*_PYTEST, "tests/integration/test_side_questions.py"),
    "views": (*_PYTEST, "tests/unit/chain/rpc/test_votes.py", "tests/integration/test_node_items.py"),
    "answers": (*_PYTEST, "tests/unit/chain/rpc/test_replies.py"),
    "restored": (*_PYTEST, "tests/conformance/test_restored.py"),
    "hook code": (*_PYTEST, "tests/integration/test_hook_reload.py"),
    "hook results": (*_PYTEST, "tests/conformance/test_hook_results.py"),
    "hook groups": (*_PYTEST, "tests/integration/test_hook_group.py"),
    "hook renewal": (*_PYTEST, "tests/integration/test_hook_renewal.py"),
    "hook schema": (*_PYTEST, "tests/unit/hook/test_schema.py"),
    "hook program": (*_PYTEST, "tests/integration/test_hook_program.py"),
    "hook service": (*_PYTEST, "tests/integration/test_hook_http.py"),
}


@dataclass(frozen=True)
class Catch:
    """Who found the bug, with what words and after how long. `suite` is None where nobody did."""

    mutant: Mutant
    suite: str | None
    reason: str
    took_s: float


class Stale(Exception):
    """The text a mutant replaces is not there any more, or more than once: the mutant has to be brought up to date."""


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the tree that may be spoilt."""
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        tree = Path(name)
        for part in _COPIED:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, tree / part, ignore=_LEFT_OUT)
            elif source.exists():
                shutil.copy(source, tree / part)
        yield tree


def plant(tree: Path, mutant: Mutant) -> None:
    """Change the copy. Raises Stale."""
    for file, old, new in mutant.edits:
        path = tree / "watcher" / file
        text = path.read_text()
        if text.count(old) != 1:
            raise Stale(f"{mutant.name}: {file} holds {old.strip()!r} {text.count(old)} times")
        path.write_text(text.replace(old, new))


def hunt(mutant: Mutant | None, *, budget_s: float = 40.0, suites: Sequence[str] | None = None) -> Catch:
    """Plant the bug and run the suites until one fails. None plants nothing: then nothing must be caught."""
    began_s = time.monotonic()
    with copied() as tree:
        if mutant is not None:
            plant(tree, mutant)
        for suite in suites or ("simulation", *(mutant.suites if mutant else ())):
            reason = _fails(tree, suite, budget_s)
            if reason is not None:
                return Catch(mutant or _NOBODY, suite, reason, time.monotonic() - began_s)
    return Catch(mutant or _NOBODY, None, "", time.monotonic() - began_s)


_NOBODY = Mutant("nothing planted", "", ())


def _fails(tree: Path, suite: str, budget_s: float) -> str | None:
    """The words of a suite that failed, None when it passed."""
    command = [sys.executable, *SUITES[suite], *((str(budget_s),) if suite == "simulation" else ())]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree)}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {_TIMEOUT_S} s"
    if done.returncode == 0:
        return None
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    verdict_lines = [line for line in lines if line.startswith(("seed ", "FAILED", "E  "))]
    return (verdict_lines or lines or ["it failed without words"])[0].removeprefix("E  ").strip()[:200]
