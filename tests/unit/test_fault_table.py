"""docs/dev/faults.md says of each fault what proves the daemon against it, or that nothing does; this keeps it true."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.planted.mutants import MUTANTS
from tests.simulation.rules import FAULTS
from tests.torture.havoc import ACTS, FATES
from tests.torture.rpc_faults import RpcFaultKind
from watcher.devnet.faults import FaultKind

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "dev" / "faults.md"
SECTIONS = {"R": 64, "C": 19, "H": 23, "P": 33, "D": 22, "X": 16, "K": 21, "S": 28}
IDS = [f"{section}{number}" for section, size in SECTIONS.items() for number in range(1, size + 1)]
NOT_COVERED = "not covered:"
TORTURE = {
    *(f"rpc.{kind}" for kind in RpcFaultKind),
    *(f"api.{kind}" for kind in FaultKind),
    *ACTS,
    *(f"reorg {fate}" for fate in FATES),
    "SIGKILL",
}
NAMES = {"torture": TORTURE, "simulation": {*FAULTS}, "planted": {mutant.name for mutant in MUTANTS}}


@dataclass(frozen=True)
class Row:
    ident: str
    fault: str
    answer: str
    tests: tuple[str, ...]
    runs: tuple[tuple[str, str], ...]  # kind of run, name of the fault class in it
    reason: str

    @property
    def coverage(self) -> str:
        if self.reason:
            return "partly covered" if self.tests or self.runs else "not covered"
        return "covered by tests" if self.tests else "covered by torture or simulation only"


def read(line: str) -> Row:
    """One line of the table: the proofs stand in `code`, and the reason behind "not covered: " ends the line."""
    ident, fault, answer, proof = (cell.strip() for cell in line.strip().strip("|").split(" | "))
    proofs, separator, reason = proof.partition(NOT_COVERED)
    named = re.findall(r"`([^`]+)`", proofs)
    left = re.sub(r"`[^`]+`|[\s,;]", "", proofs)
    assert left == "", f"{ident}: neither a proof nor a reason: {left}"
    assert bool(separator) == bool(reason.strip()), f"{ident}: a reason without words"
    tests = tuple(name for name in named if "::" in name)
    runs = []
    for proof_name in named:
        if "::" not in proof_name:
            kind, colon, name = proof_name.partition(": ")
            assert colon, f"{ident}: what is {proof_name}?"
            runs.append((kind, name))
    return Row(ident, fault, answer, tests, tuple(runs), reason.strip())


def rows() -> list[Row]:
    return [read(line) for line in PAGE.read_text().splitlines() if re.match(r"\| [A-Z][0-9]+ \|", line)]


@cache
def functions(path: Path) -> frozenset[str]:
    """The tests that a file defines: at its top, or as methods of a class there."""

    def below(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield node.name
            elif isinstance(node, ast.ClassDef):
                yield from below(node.body)

    return frozenset(name for name in below(ast.parse(path.read_text()).body) if name.startswith("test_"))


def test_every_fault_is_there_once_and_in_order() -> None:
    assert len(IDS) == 226
    assert [row.ident for row in rows()] == IDS


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.ident)
def test_what_is_named_exists(row: Row) -> None:
    assert row.fault
    assert row.answer
    assert row.tests or row.runs or row.reason, "neither a proof nor a reason"
    for name in row.tests:
        file, _, function = name.partition("::")
        path = ROOT / file
        assert path.is_file() and path.is_relative_to(ROOT / "tests"), file
        assert path.name.startswith("test_"), f"{file} is not collected"
        assert function in functions(path), name
    for kind, name in row.runs:
        assert name in NAMES[kind], f"{kind}: {name}"


def test_the_counts_on_the_page_are_those_of_its_rows() -> None:
    counts = Counter(row.coverage for row in rows())
    text = PAGE.read_text()
    print(dict(counts))
    for coverage in ("covered by tests", "covered by torture or simulation only", "partly covered", "not covered"):
        assert f"| {coverage} | {counts[coverage]} |" in text, f"{coverage}: {counts[coverage]}"
    assert sum(counts.values()) == len(IDS)


def test_a_row_that_proves_nothing_is_noticed() -> None:
    good = read("| R1 | a | b | `tests/unit/test_x.py::test_y`, `torture: rpc.lag` |")
    assert (good.coverage, good.tests, good.runs) == (
        "covered by tests",
        ("tests/unit/test_x.py::test_y",),
        (("torture", "rpc.lag"),),
    )
    assert read("| R1 | a | b | `torture: rpc.lag`; not covered: two of them |").coverage == "partly covered"
    assert read("| R1 | a | b | not covered: no way here |").coverage == "not covered"
    with pytest.raises(AssertionError, match="neither a proof nor a reason"):
        read("| R1 | a | b | surely fine |")
    with pytest.raises(AssertionError, match="a reason without words"):
        read("| R1 | a | b | not covered:  |")
    with pytest.raises(AssertionError, match="neither a proof"):
        test_what_is_named_exists(read("| R1 | a | b |  |"))
    for wrong in ("`tests/unit/test_fault_table.py::test_nothing`", "`torture: rpc.boredom`", "`planted: a tree`"):
        with pytest.raises(AssertionError):
            test_what_is_named_exists(read(f"| R1 | a | b | {wrong} |"))
