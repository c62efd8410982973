"""ARCHITECTURE.md draws the folders: what the drawing names must be there, and every folder must be in it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def drawn() -> set[str]:
    """Every path of the drawing.

    A name lies in the last folder that is indented less, or in the folder its own line begins with.
    """
    text = (ROOT / "ARCHITECTURE.md").read_text().partition("## Code map\n")[2].partition("\n    cli > ")[0]
    above: list[tuple[int, str]] = [(-1, "")]
    paths = set()
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        while above[-1][0] >= depth:
            above.pop()
        folder = inner = above[-1][1]
        for match in re.finditer(r"(?<![\w./])(\w+(?:/|\.py))(?![\w/*])", line):
            name = match[1]
            paths.add(inner + name if (ROOT / inner / name).exists() else folder + name)
            if match.start() == depth and name.endswith("/"):
                inner = folder + name
                above.append((depth, inner))
    return paths


def test_what_the_code_map_names_is_there() -> None:
    named = drawn()
    assert len(named) > 40
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_folder_is_in_the_code_map() -> None:
    named = drawn()
    packages = {str(init.parent.relative_to(ROOT)) + "/" for init in (ROOT / "watcher").rglob("__init__.py")}
    assert packages - named == set()


def test_every_file_is_in_the_code_map() -> None:
    """Of the commands the map says that each has a file."""
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "watcher").rglob("*.py") if not path.stem.startswith("__")}
    assert [path for path in sorted(files - drawn()) if not path.startswith("watcher/cli/")] == []


def _section(title: str) -> str:
    return (ROOT / "ARCHITECTURE.md").read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]


def _paths(text: str) -> list[str]:
    return re.findall(r"`([a-z_/]+(?:\.py|/))`", text)


def test_a_tasks_way_names_files_that_exist_and_stays_short() -> None:
    paths = _paths(_section("A task's way").partition("\n- ")[2])
    assert [path for path in paths if not (ROOT / "watcher" / path).is_file()] == []
    assert len(set(paths)) == len(paths)
    assert 40 <= len(paths) <= 47


def test_the_lists_of_additions_name_paths_that_exist() -> None:
    paths = _paths(_section("To add something"))
    assert len(paths) >= 15
    assert [path for path in paths if not (ROOT / "watcher" / path).exists()] == []
