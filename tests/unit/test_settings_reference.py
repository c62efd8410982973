"""The reference pages say what the code says."""

import subprocess
import sys
from pathlib import Path

import pytest

from docs.generate.pages import PAGES, main
from watcher.settings.problems import FIELDS

ROOT = Path(__file__).parents[2]


def test_the_committed_pages_are_current() -> None:
    for name, page in PAGES.items():
        assert (ROOT / name).read_text() == page(), "run: python -m docs.generate.pages"


def test_every_setting_is_described_on_its_page() -> None:
    page = PAGES["docs/settings.md"]()
    for (section, name), field in FIELDS.items():
        assert field.description, f"{section}.{name}"
        table = page.split(f"## [{section}]\n")[1].split("\n## ")[0]
        (row,) = [line for line in table.split("\n") if line.startswith(f"| `{name}` |")]
        assert field.description in row.replace("\\|", "|")


def test_check_finds_a_page_that_has_fallen_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--check"]) == 1
    assert not (tmp_path / "docs").exists()
    assert main([]) == 0
    assert main(["--check"]) == 0
    (tmp_path / "docs" / "settings.md").write_text("old")
    assert main(["--check"]) == 1


def test_the_pages_are_made_by_running_the_module() -> None:
    command = [sys.executable, "-m", "docs.generate.pages", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=60).returncode == 0
