"""The command: which measures run, and which results of before count."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import catalogue
from bench.__main__ import _is_done, app
from bench.environment import PEERS
from bench.program import toml
from bench.results import Skipped
from bench.sizes import FULL, QUICK
from tests.unit.bench.test_summary import CONDITIONS, result


def test_every_measure_has_a_name_of_its_own_and_a_first_figure() -> None:
    measures = catalogue.measures(FULL)
    assert len({measure.name for measure in measures}) == len(measures)
    assert all(measure.figures for measure in measures)
    assert set(catalogue.QUICK) <= {measure.name for measure in measures}


def test_every_aim_is_for_a_figure_of_its_measure() -> None:
    for measure in catalogue.measures(FULL):
        assert {aim.figure for aim in measure.aims} <= {figure.key for figure in measure.figures}, measure.name


def test_every_drawing_has_a_file_of_its_own() -> None:
    files = [curve.file for measure in catalogue.measures(FULL) for curve in measure.curves]
    assert len(files) == len(set(files))


def test_results_of_the_same_commit_and_sizes_count() -> None:
    done = replace(result([1], [1]), conditions=CONDITIONS)
    assert _is_done(done, CONDITIONS.commit, QUICK)


@pytest.mark.parametrize("reason", ["no result", "other commit", "other sizes", "a failed side", "changed files"])
def test_other_results_are_measured_again(reason: str) -> None:
    done = replace(result([1], [1]), conditions=CONDITIONS)
    commit, sizes = CONDITIONS.commit, QUICK
    match reason:
        case "other commit":
            commit = "other"
        case "other sizes":
            sizes = FULL
        case "a failed side":
            done = replace(done, skipped=[Skipped("a", "broken", failed=True)])
        case "changed files":
            commit += "+"
            done = replace(done, conditions=replace(CONDITIONS, commit=commit))
    assert not _is_done(None if reason == "no result" else done, commit, sizes)


def test_an_unknown_measure_is_refused_with_the_known_ones() -> None:
    outcome = CliRunner().invoke(app, ["--only", "nonsense"])
    assert outcome.exit_code == 2
    assert "latency" in outcome.output


def test_settings_become_a_toml_document() -> None:
    settings: dict[str, dict[str, object]] = {
        "chain": {"rpc_urls": ["http://a", "ws://b"], "chain_id": 1},
        "http": {"listen": ""},
    }
    assert tomllib.loads(toml(settings)) == settings


@pytest.mark.parametrize("file", sorted(PEERS.glob("*/requirements.txt")), ids=lambda file: file.parent.name)
def test_every_package_of_a_peer_is_pinned(file: Path) -> None:
    assert all("==" in line for line in file.read_text().splitlines() if not line.startswith((" ", "#")))
