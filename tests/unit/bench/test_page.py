"""The file of results, the page and the drawings that are written from it."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import page, results
from bench.errors import Failed
from bench.measure import Curve, Figure, Point, Sample
from bench.results import MeasureResult, Results, SideResult, Skipped
from bench.sizes import QUICK
from bench.svg import Chart, draw
from tests.unit.bench.test_summary import CONDITIONS


def measured() -> Results:
    sides = [
        SideResult("ours", "ours", "", x, [Sample({"n": x * 10}, 1, 1, {"run": [(0.0, 1.0), (1.0, x)]})])
        for x in (4.0, 32.0)
    ]
    curves = [Curve("n", "N", "x", "n", figure="n"), Curve("none", "None", "x", "n", series="absent")]
    skipped = [Skipped("Ponder", "no npm\nat all")]
    result = MeasureResult("m", "m", CONDITIONS, QUICK, 1.0, [Figure("n", "n")], sides, skipped, curves=curves)
    return Results(measures={"m": result})


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    results.write(measured(), file)
    assert results.to_json(results.read(file)) == results.to_json(measured())
    assert results.read(tmp_path / "absent.json") == Results()


@pytest.mark.parametrize("text", ["{", '{"schema": 2, "measures": {}}', '{"measures": {"m": 1}}'])
def test_a_file_of_another_schema_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(Failed, match="remove it"):
        results.read(file)


def test_the_block_has_every_side_and_what_was_left_out() -> None:
    text = page.with_block(f"before\n{page._BEGIN}\nold\n{page._END}\nafter", measured())
    assert text.startswith("before\n")
    assert text.endswith("\nafter")
    assert "old" not in text
    assert text.count("| ours |") == 2
    assert "Left out: Ponder: no npm\n" in text
    assert page.with_block(text, measured()) == text


def test_a_page_without_a_block_is_refused() -> None:
    with pytest.raises(Failed, match="no block"):
        page.with_block("nothing here", measured())


def test_no_results_are_not_published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(page, "PUBLISHED", tmp_path / "results.json")
    with pytest.raises(Failed, match="no results"):
        page.publish(Results())
    assert not (tmp_path / "results.json").exists()


def test_a_drawing_is_made_for_each_curve_with_points() -> None:
    assert [name for name, _ in page.charts(measured())] == ["n.svg"]


@pytest.mark.parametrize("log", [False, True])
def test_a_drawing_is_well_formed_and_within_its_box(log: bool) -> None:
    lines: dict[str, list[Point]] = {
        "a <&>": [(4.0, 1.0), (0.0, 3.0), (128.0, 700.0)],
        "level": [(0.0, 5.0)],
        "none": [],
    }
    root = ElementTree.fromstring(draw(Chart("<title>", "x", "y", log_x=log, log_y=log), lines))
    namespace = "{http://www.w3.org/2000/svg}"
    texts = [element.text for element in root.iter(f"{namespace}text")]
    assert {"<title>", "a <&>", "level"} <= set(texts)
    assert "none" not in texts
    circles = list(root.iter(f"{namespace}circle"))
    assert len(circles) == (2 if log else 3)
    assert all(80 <= float(c.attrib["cx"]) <= 510 and 40 <= float(c.attrib["cy"]) <= 344 for c in circles)


def test_the_published_page_and_drawings_follow_from_the_published_results() -> None:
    published = results.read(page.PUBLISHED)
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.with_block(text, published) == text
    drawings = {file.name: file.read_text(encoding="utf-8") for file in page.DRAWINGS.glob("*.svg")}
    assert drawings == dict(page.charts(published))
