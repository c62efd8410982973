"""New projects: their files, names that are no names, and folders that hold something already."""

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.errors import FixUsage
from watcher.files import parse
from watcher.project.template import Language, missing_programs, project_files, project_name, write_project

ROOT = Path(__file__).parents[3]
COMMON = {".github/workflows/test.yml", ".gitignore", "README.md", "pyproject.toml", "watcher.toml"}
COMMON |= {"tests/test_hook.py", "tests/tasks.json"}
OWN = {
    Language.PYTHON: {"hook.py"},
    Language.TYPESCRIPT: {"package.json", "tsconfig.json", "src/hook.ts", "src/main.ts", "tests/conftest.py"},
    Language.GO: {"go.mod", "hook.go", "main.go", "tests/conftest.py"},
    Language.SHELL: {"hook.sh"},
}


def tree(folder: Path) -> dict[str, str]:
    ignored = ("__pycache__", ".pytest_cache", "devnet")
    files = (path for path in folder.rglob("*") if path.is_file() and not set(ignored) & set(path.parts))
    return {str(path.relative_to(folder)): path.read_text() for path in files}


@pytest.mark.parametrize("language", Language)
def test_a_project_is_complete(language: Language, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "my-avs"
    assert write_project(folder, language) == sorted(COMMON | OWN[language])
    files = tree(folder)
    assert files.keys() == COMMON | OWN[language]
    assert not any("@PROJECT@" in text or "@VERSION@" in text for text in files.values())
    assert "my-avs" in files["README.md"]
    hook = tomllib.loads(files["watcher.toml"])["hook"]
    assert hook["target"] and (hook["message"], hook["response"]) == ("(uint256 number)", "(uint256 square)")
    assert "avs-task-watcher[testing]>=" in tomllib.loads(files["pyproject.toml"])["dependency-groups"]["test"][0]
    assert os.access(folder / "hook.sh", os.X_OK) == (language is Language.SHELL)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["my-avs"], "no temporary folder is left"


def test_programs_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert missing_programs(Language.GO) == "go (https://go.dev/doc/install)"
    assert missing_programs(Language.TYPESCRIPT).startswith("node and npm")
    assert missing_programs(Language.PYTHON) == ""
    (tmp_path / "go").touch(0o755)
    assert missing_programs(Language.GO) == ""


def test_the_example_is_what_the_command_writes() -> None:
    files = project_files(Language.PYTHON, "first-hook")
    assert tree(ROOT / "examples" / "first_hook") == files, "make docs"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my-avs", "my-avs"),
        ("My AVS (2)", "my-avs-2"),
        ("..x..", "x"),
        ("7", "avs-hook-7"),
        ("日本", "avs-hook"),
        ('"; rm -rf $HOME; "', "rm-rf-home"),
        ("a" * 200, "a" * 64),
        ("x\n[tool]", "x-tool"),
    ],
)
def test_a_project_has_a_name_that_every_tool_takes(name: str, expected: str) -> None:
    assert project_name(Path("/srv") / name) == expected


@given(st.text(min_size=1).filter(lambda name: "/" not in name and "\0" not in name))
def test_files_of_any_folder_can_be_parsed(name: str) -> None:
    for language in Language:
        files = project_files(language, project_name(Path("/srv") / name))
        tomllib.loads(files["pyproject.toml"])
        if language is Language.TYPESCRIPT:
            assert parse(files["package.json"].encode())["name"] == project_name(Path("/srv") / name)


def test_an_existing_file_is_kept_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "hook.py").write_text("mine")
    with pytest.raises(FixUsage, match=r"has hook\.py already"):
        write_project(tmp_path, Language.PYTHON)
    assert tree(tmp_path) == {"hook.py": "mine"}


def test_a_link_to_nowhere_is_kept(tmp_path: Path) -> None:
    (tmp_path / "watcher.toml").symlink_to("/nowhere")
    with pytest.raises(FixUsage, match=r"watcher\.toml already"):
        write_project(tmp_path, Language.SHELL)


def test_a_folder_with_other_files_takes_a_project(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "mine.py").write_text("mine")
    write_project(tmp_path, Language.GO)
    assert (tmp_path / "tests" / "mine.py").read_text() == "mine"
    assert (tmp_path / "hook.go").exists()
    with pytest.raises(FixUsage, match="already"):
        write_project(tmp_path, Language.GO)


@pytest.mark.parametrize("path", ["file", "file/below", "\0", "x" * 300])
def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FixUsage):
        write_project(tmp_path / path, Language.PYTHON)
    assert tree(tmp_path) == {"file": "mine"}
