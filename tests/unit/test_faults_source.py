"""Promises that the source keeps by what is not in it, and some that hold before anything runs."""

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer.main

from watcher.cli.main import application

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "watcher"


@cache
def nodes(folder: Path) -> tuple[tuple[str, ast.AST], ...]:
    """Every node of the source below a folder, with its place."""
    return tuple(
        (f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node)
        for path in sorted(folder.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
    )


def called(node: ast.AST) -> str:
    """The last part of the name of what is called here, "" where nothing is."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def test_nothing_from_outside_can_become_code() -> None:
    forbidden = {"pickle", "marshal", "shelve", "dill", "yaml"}
    imported = {name.name.split(".")[0]: where for where, node in nodes(PACKAGE) if isinstance(node, ast.Import)
                for name in node.names}  # fmt: skip
    imported |= {(node.module or "").split(".")[0]: where for where, node in nodes(PACKAGE)
                 if isinstance(node, ast.ImportFrom)}  # fmt: skip
    assert "tomllib" in imported, "this would be statements"
    assert {name: where for name, where in imported.items() if name in forbidden} == {}
    builtins = [where for where, node in nodes(PACKAGE) if isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec", "compile")]  # fmt: skip
    assert builtins == []


def test_no_statement_for_the_database_is_put_together_from_text_of_others() -> None:
    """What SQLite takes no parameters for is a PRAGMA; all else is a constant, or built by SQLAlchemy."""
    wrong, statements = [], 0
    for where, node in nodes(PACKAGE):
        if called(node) not in ("execute", "executemany", "exec_driver_sql", "executescript", "text"):
            continue
        assert isinstance(node, ast.Call)
        for part in node.args[:1]:
            statements += 1
            if isinstance(part, ast.JoinedStr) and not ast.unparse(part).lstrip("f'\"").startswith("PRAGMA "):
                wrong.append(where)
            if isinstance(part, ast.Call) and called(part) == "format":
                wrong.append(where)
    assert statements > 10
    assert wrong == []


def test_no_two_processes_draw_the_same_pauses() -> None:
    """The daemon's jitter comes from the system; a generator with a seed of its own would repeat itself elsewhere."""
    made = [
        (where, called(node)) for where, node in nodes(PACKAGE) if called(node) in ("Random", "SystemRandom", "seed")
    ]
    # The devnet is no daemon, and `watcher replay` draws the same sample each time.
    others = ("watcher/devnet/", "watcher/cli/past_tasks.py")
    daemon = [(where, name) for where, name in made if not where.startswith(others)]
    assert len(daemon) >= 3
    assert {name for _, name in daemon} == {"SystemRandom"}, daemon


def test_every_file_of_the_lock_has_its_hash() -> None:
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    files = [
        file for package in packages for file in [*package.get("wheels", []), *filter(None, [package.get("sdist")])]
    ]
    assert len(files) > 50
    assert all(file["hash"].startswith("sha256:") for file in files)
    elsewhere = [package["name"] for package in packages if not {"registry", "editable"} & set(package["source"])]
    assert elsewhere == []


def options(command: Any, name: str = "watcher") -> Iterator[tuple[str, str]]:
    """Every option and argument of a command and of those below it."""
    yield from ((name, option) for parameter in command.params for option in (*parameter.opts, parameter.name or ""))
    for below, subcommand in getattr(command, "commands", {}).items():
        yield from options(subcommand, f"{name} {below}")


def test_no_option_takes_a_secret() -> None:
    """A command line is shown to every user of the machine; what needs a password takes it from elsewhere."""
    all_options = list(options(typer.main.get_command(application())))
    assert ("watcher run", "--config") in all_options
    wrong = [
        option
        for option in all_options
        if any(word in option[1].lower() for word in ("passw", "secret", "token", "url", "key"))
    ]
    # The devnet's password is made up by it, printed by it, and worth nothing elsewhere.
    assert [option for option in wrong if not option[0].startswith(("watcher devnet", "watcher demo"))] == []
