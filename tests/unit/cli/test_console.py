"""Text from outside on a terminal: shown as it stands, never obeyed."""

import ast
from pathlib import Path

import pytest
from rich.table import Table

from watcher.cli.console import PlainConsole

SOURCES = Path(__file__).parents[3] / "watcher"
HOME = SOURCES / "cli" / "console.py"

HOSTILE = {
    "closing tag": ("[/x]", "[/x]"),
    "style": ("[red]all is well[/red]", "[red]all is well[/red]"),
    "link": ("[link=https://evil.example]click[/link]", "[link=https://evil.example]click[/link]"),
    "half a tag": ("[/", "[/"),
    "backslash": ("\\[/b]", "\\[/b]"),
    "emoji code": (":skull:", ":skull:"),
    "colour sequence": ("\x1b[31mred", "\\x1b[31mred"),
    "title sequence": ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
    "one-byte control": ("\x9b2J", "\\x9b2J"),
    "carriage return": ("bad\rgood", "bad\\rgood"),
    "right to left": ("a\u202eb", "a\\u202eb"),
}


@pytest.mark.parametrize(("text", "printed"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("place", ["line", "cell", "header", "title"])
def test_console_shows_text_as_it_stands(
    place: str, text: str, printed: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal, where a style would show
    table = Table(text if place == "header" else "words", title=text if place == "title" else None, style="none")
    table.add_row(text if place == "cell" else "x" * 60)
    PlainConsole(to_stderr=True).print(text if place == "line" else table)
    out = capsys.readouterr().err
    assert printed in out
    assert text == printed or text not in out


def test_console_keeps_line_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    PlainConsole().print("one\n[/two]")
    assert capsys.readouterr().out == "one\n[/two]\n"


def _markup(tree: ast.AST) -> list[str]:
    """What of a module could have text read as markup."""
    users = []
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                users += [f"{module}.{name.name}" for name in names if module == "rich" or name.name == "Console"]
            case ast.Import(names=names):
                users += [name.name for name in names if name.name.split(".")[0] == "rich"]
            case ast.Attribute(attr="from_markup" | "from_ansi" as name):
                users.append(name)
            case ast.keyword(arg="markup", value=ast.Constant(value=True)):
                users.append("markup=True")
            # A spinner reads a plain string as markup, whatever its console says.
            case ast.Call(func=ast.Attribute(attr="status", value=ast.Name(id="console")), args=[first, *_]):
                users += ["status"] if not isinstance(first, ast.Call) else []
    return users


def test_no_other_module_reads_text_as_markup() -> None:
    used = {path: _markup(ast.parse(path.read_text())) for path in SOURCES.rglob("*.py") if path != HOME}
    assert len(used) > 100
    assert {str(path): modules for path, modules in used.items() if modules} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from rich.console import Console",
        "from rich import print",
        "import rich",
        "text = Text.from_markup(words)",
        "console.print(words, markup=True)",
        "console.status(words)",
    ],
)
def test_the_search_for_markup_finds_each_way(source: str) -> None:
    assert _markup(ast.parse(source))
