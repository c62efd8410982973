"""Names: one word for one thing, and docstrings that name the errors a caller must expect."""

import ast
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from watcher import errors

ROOT = Path(__file__).parents[2]
Function = ast.FunctionDef | ast.AsyncFunctionDef

# Metaphors and leftovers of sentences. ARCHITECTURE.md has the glossary to use instead.
_BANISHED = """
again amnesia at_start bell bells book bulletin bury casts courier crew desk dismiss ending endpoints facts feed
first_look flight found frame given growth hand hear heard held hooked house hurry instruments judge judgement
keeper knock knocks landing learn letter life_line look made_up mind_the_clock move_rows moves natural near news one
passes pieces play possession reached recast recipe refusals refuse_amnesia rehearsal rescue rescued retime ring rooms
rounds said setback shape shown slip some staff standing told trouble turn wanted witness words
"""
BANISHED = frozenset(_BANISHED.split())
# Exceptions by package, in tests/names.toml; they only shrink. `left`: words that a package still has, because users
# hold them (a column, a field of JSON), or because they wait for their turn. `unnamed_errors`: how many public
# functions raise an error that their docstring does not name.
_EXCEPTIONS = tomllib.loads((ROOT / "tests" / "names.toml").read_text(encoding="utf-8"))
LEFT: Mapping[str, list[str]] = _EXCEPTIONS["left"]
UNNAMED_ERRORS: Mapping[str, int] = _EXCEPTIONS["unnamed_errors"]


def _package(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


@cache
def _trees() -> Mapping[Path, ast.Module]:
    paths = (path for folder in ("watcher", "tests", "bench") for path in sorted((ROOT / folder).rglob("*.py")))
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def _names(tree: ast.Module) -> Iterator[str]:
    """Yield every name that the module gives: variables, arguments, attributes, functions, classes, aliases."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.alias(asname=str(name)):
                yield name


def test_no_name_is_a_banished_word() -> None:
    wrong: dict[str, set[str]] = {}
    for path, tree in _trees().items():
        for name in (path.stem, *_names(tree)):
            word = name.strip("_").lower()
            if word in BANISHED and word not in LEFT.get(_package(path), []):
                wrong.setdefault(_package(path), set()).add(word)
    assert wrong == {}


def test_the_name_of_a_test_has_at_most_70_characters() -> None:
    names = {
        node.name
        for path, tree in _trees().items()
        if path.is_relative_to(ROOT / "tests")
        for node in ast.walk(tree)
        if isinstance(node, Function) and node.name.startswith("test_")
    }
    assert len(names) > 1000
    assert {name for name in names if len(name) > 70} == set()


def test_a_public_name_is_defined_in_at_most_three_modules() -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    modules = Counter(
        node.name
        for path, tree in _trees().items()
        if path.is_relative_to(ROOT / "watcher")
        for node in tree.body
        if isinstance(node, kinds) and not node.name.startswith("_")
    )
    assert {name: count for name, count in modules.items() if count > 3} == {}


_ERRORS = frozenset(name for name, value in vars(errors).items() if isinstance(value, type))


def _public_functions(tree: ast.Module) -> Iterator[Function]:
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]
        for function in inner:
            if isinstance(function, Function) and not function.name.startswith("_") and not _is_command(function):
                yield function


def _is_command(function: Function) -> bool:
    """Return True for a command of the command line: its docstring is the text of --help."""
    if any("typer." in ast.unparse(arg.annotation) for arg in function.args.args if arg.annotation):
        return True
    calls = (decorator for decorator in function.decorator_list if isinstance(decorator, ast.Call))
    return any(isinstance(call.func, ast.Attribute) and call.func.attr == "command" for call in calls)


def _raised(function: Function) -> Iterator[str]:
    """Yield the named errors that the function itself raises, not those of functions inside it."""
    nodes: list[ast.AST] = list(function.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Raise) and node.exc is not None:
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(error, ast.Name) and error.id in _ERRORS:
                yield error.id
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            nodes.extend(ast.iter_child_nodes(node))


def test_a_public_function_names_the_errors_it_raises() -> None:
    wrong: dict[str, list[str]] = {}
    for path, tree in _trees().items():
        if path.is_relative_to(ROOT / "watcher"):
            for function in _public_functions(tree):
                unnamed = [error for error in _raised(function) if error not in (ast.get_docstring(function) or "")]
                if unnamed:
                    wrong.setdefault(_package(path), []).append(f"{path.stem}.{function.name}: {unnamed}")
    assert {package: names for package, names in wrong.items() if len(names) > UNNAMED_ERRORS.get(package, 0)} == {}


def test_health_gets_sections_and_not_the_whole_settings() -> None:
    for path, tree in _trees().items():
        if path.parent == ROOT / "watcher" / "health":
            imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
            assert "Settings" not in {alias.name for node in imports for alias in node.names}, path.name
