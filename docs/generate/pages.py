"""The reference pages, and the rules for Prometheus, made from the code they describe.

`python -m docs.generate.pages` writes them, with `--check` it only compares (exit code 1 on a difference).
Invariant: a page is a pure function of the code, so a test can demand that the committed one is the current one.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs.generate.alerts import alerts_page, rules_file, rules_test_file
from docs.generate.commands import commands_page
from docs.generate.dictionary import datasette_file, ledger_page
from docs.generate.metrics import metrics_page
from docs.generate.states import states_page
from watcher.project.template import Language, project_files
from watcher.settings.model import MAX_INT
from watcher.settings.names import credential_name, env_name
from watcher.settings.problems import FIELDS, SECTIONS, is_private
from watcher.settings.template import toml_value

_INTRODUCTION = """\
# Settings

<!-- Written by `make docs`; change the descriptions in watcher/settings/ instead. -->

A setting comes from the first of these that has it:

1. the command line, where a command has an option for it;
2. the environment: `WATCHER_`, the table, `__`, the key, in capitals (`WATCHER_CHAIN__CHAIN_ID=1`); a list as a JSON
   array, or separated by spaces;
3. a credential file in `$CREDENTIALS_DIRECTORY`, named by table, `__` and key in small letters
   (`operator__password`); line breaks at its end are dropped;
4. the TOML file (`--config FILE`, `./watcher.toml`), as a key in its table;
5. the default.

A name that is no setting is an error in the file and on the command line. In the environment and among the
credential files only names of the form `WATCHER_TABLE__KEY` and `table__key` can be ours: a typo in one is an error, a
name that is near to one (`WATCHER_LEDGER_URL`) is a warning, and the rest belongs to other programs. `watcher check`
lists all problems at once; every command ends with exit code 78 while there is one.

A password is refused in the TOML file. A setting marked *private* can hide a secret (a key in a URL): its value is
never shown, in no message, log line or listing. An address that holds a key can stay out of the file too, for example
in a credential file `chain__rpc_urls`, one URL a line.
"""


def settings_page() -> str:
    """`docs/settings.md`."""
    parts = [_INTRODUCTION]
    for section, model in SECTIONS.items():
        parts += [f"## [{section}]", "", model.__doc__ or "", ""]
        parts += ["| key | value | default | meaning |", "|---|---|---|---|"]
        parts += [_row(table, name, field) for (table, name), field in FIELDS.items() if table == section]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def example_project() -> Mapping[str, Callable[[], str]]:
    """Return the files of examples/first_hook, which `watcher init --template first-hook` writes."""

    def text_of(path: str) -> Callable[[], str]:
        return lambda: project_files(Language.PYTHON, "first-hook")[path]

    return {f"examples/first_hook/{path}": text_of(path) for path in project_files(Language.PYTHON, "first-hook")}


# One function a file, by its path.
PAGES: Mapping[str, Callable[[], str]] = {
    "docs/settings.md": settings_page,
    "docs/commands.md": commands_page,
    "docs/metrics.md": metrics_page,
    "docs/alerts.md": alerts_page,
    "docs/states.md": states_page,
    "docs/ledger.md": ledger_page,
    "monitoring/alerts.yml": rules_file,
    "monitoring/datasette.json": datasette_file,
    "monitoring/alerts_test.yml": rules_test_file,
    **example_project(),
}


def _row(section: str, name: str, field: FieldInfo) -> str:
    notes = [field.description or ""]
    if SecretStr in get_args(field.annotation):
        notes.append(f"From `{env_name((section, name))}` or the credential file `{credential_name((section, name))}`.")
    elif is_private(field):
        notes.append("*Private.*")
    cells = [f"`{name}`", _kind(field), _default(section, name, field), " ".join(notes)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def value_and_default(section: str, name: str) -> str:
    """Return the kind of value and the default of a setting, as the page shows them."""
    field = FIELDS[section, name]
    return f"{_kind(field)}; default {_default(section, name, field)}"


def _default(section: str, name: str, field: FieldInfo) -> str:
    if (section, name) == ("ledger", "url"):
        return f"`{toml_value(field.default)}`, under a service manager in `$STATE_DIRECTORY`"
    if field.default is PydanticUndefined:
        return "*required*"
    return "none" if field.default in (None, "") else f"`{toml_value(field.default)}`"


def _kind(field: FieldInfo) -> str:
    # A key can narrow the bounds of its type: the tightest counts.
    bounds = [
        (name, getattr(note, name)) for note in field.metadata for name in ("gt", "ge", "le") if hasattr(note, name)
    ]
    limits = []
    for name, words, tightest in (("gt", "more than {}", max), ("ge", "{} or more", max), ("le", "at most {}", min)):
        values = [value for bound, value in bounds if bound == name]
        if values and tightest(values) < MAX_INT:
            limits.append(words.format(tightest(values)))
    return ", ".join([_type_name(field.annotation), *limits])


_NAMES: Mapping[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    SecretStr: "text",
}


def _type_name(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(f'`"{word}"`' for word in get_args(annotation))
    if origin is tuple:
        item = get_args(annotation)[0]
        if get_origin(item) is Literal:
            return f"list of {_type_name(item)}"
        return f"list of {_NAMES[item]}s".replace("texts", "text")
    if origin in (Union, UnionType):
        return " or ".join(_type_name(part) for part in get_args(annotation) if part is not type(None))
    return _NAMES[annotation]


def main(arguments: Sequence[str]) -> int:
    """Write or check every generated file below the working directory."""
    stale = []
    for name, page in PAGES.items():
        path, text = Path(name), page()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(str(path))
            if "--check" not in arguments:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if stale:
        print("out of date:" if "--check" in arguments else "written:", *stale)
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
