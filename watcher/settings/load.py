"""The sources of the settings: command line, environment, credential files, TOML file, defaults, in this order.

Of several AVSs each has sources of its own, which come before those that all have in common. Invariant: whatever the
sources hold, `load_all` gives each AVS valid settings or every problem.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from watcher.errors import FixConfiguration
from watcher.redact import Redactor
from watcher.settings.avs import (
    Avs,
    Files,
    chosen,
    own_file,
    own_schema,
    problems_of,
    read_files,
    refuse_doubles,
)
from watcher.settings.checks import roles
from watcher.settings.daemon import ROLES
from watcher.settings.model import Settings
from watcher.settings.problems import (
    FIELDS,
    Entry,
    Key,
    is_private,
    limited,
    render,
)
from watcher.settings.sources import Source, from_credentials, from_environment, from_overrides, from_tables

_LEDGER_URL, _LEDGER_SCHEMA, _ROOTS_FILE = ("ledger", "url"), ("ledger", "schema"), ("audit", "roots_file")


def load(
    config_path: Path | None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
    warn: Callable[[str], None] = lambda _remark: None,
    avs: str | None = None,
) -> Settings:
    """Read, merge and check all settings of one AVS.

    Args:
        config_path: as `load_all` takes it.
        overrides: as `load_all` takes them.
        environ: the process's environment.
        warn: as `load_all` takes it.
        avs: the name of the AVS; None: the only one.

    Raises:
        FixConfiguration: every problem, one line each, without secrets.
        FixUsage: there is no such AVS, or `avs` is None and there are several.
    """
    avs_found = chosen(load_all(config_path, overrides, environ, warn), avs)
    raise_problems([avs_found])
    return avs_found.usable()


def load_all(
    config_path: Path | None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
    warn: Callable[[str], None] = lambda _remark: None,
) -> list[Avs]:
    """Read, merge and check the settings of all AVSs. Without [[avs]] there is one, whose name is "".

    Args:
        config_path: the TOML file, or the folder with a file for each AVS, which must exist; None reads none.
        overrides: the options of the command line, as `{"log.level": "debug"}`; None values count as absent.
        environ: the process's environment.
        warn: takes each line about a name that resembles one of ours and does not stop the start.

    Raises:
        FixConfiguration: nothing can be read, one line for each problem, without secrets.
    """
    files, unreadable = Files(), []
    try:
        files = read_files(config_path)
    except FixConfiguration as error:
        unreadable = list(error.problems)
    names = [each.name for each in files.avss]
    environment = from_environment(environ, names)
    credentials = from_credentials(environ.get("CREDENTIALS_DIRECTORY", ""), names)
    first = from_overrides(overrides or {})
    if unreadable:
        # Without the file nearly every key would be reported as missing: report only what is certain.
        certain = [problem for source in (first, environment[""], credentials[""]) for problem in source.problems]
        raise FixConfiguration(*limited([*unreadable, *certain]))
    common = [environment[""], credentials[""], from_tables(files.common), _defaults(environ)]
    if not files.avss:
        avss = [_settled("", [first, *common], [], warn)]
    else:
        avss = []
        for each in files.avss:
            own = [environment[each.name], credentials[each.name], from_tables(each.tables, each.name)]
            own[-1].problems += each.problems
            avss.append(_settled(each.name, [first, *own, *common], own, warn))
    return refuse_doubles(avss)


def raise_problems(avss: Sequence[Avs]) -> None:
    """Raise FixConfiguration with the problems of all these AVSs, each with its name, if there is one."""
    if problems := problems_of(avss):
        raise FixConfiguration(*problems)


def _settled(name: str, sources: Sequence[Source], own: Sequence[Source], warn: Callable[[str], None]) -> Avs:
    """Return an AVS from its sources, the first one first; `own` are those that no other AVS has."""
    problems = [problem for source in sources for problem in source.problems]
    entries = _merged(sources)
    if name:
        _set_apart(name, entries, own)
    settings = None
    try:
        settings = Settings(**_tables(entries))
    except ValidationError as error:
        # Without the error itself: it holds the raw input.
        problems += render(error, entries, Redactor(_private_texts(sources)))
    problems += _rules(entries)
    remarks = limited([remark for source in sources for remark in source.remarks])
    if problems or settings is None:
        # A remark may be the reason why a setting is missing.
        return Avs(name, None, tuple(limited([*problems, *remarks])))
    for remark in remarks:
        warn(remark)
    return Avs(name, settings)


def _set_apart(name: str, entries: dict[Key, Entry], own: Sequence[Source]) -> None:
    """Give an AVS files and a schema of its own where it has them from what all AVSs have in common."""
    has_own = {key for source in own for key in source.entries}
    url = entries.setdefault(_LEDGER_URL, Entry(FIELDS[_LEDGER_URL].default))
    if _LEDGER_URL not in has_own and isinstance(url.value, str):
        if url.value.startswith("sqlite:"):
            entries[_LEDGER_URL] = Entry(own_file(url.value, name), url.origin)
        elif _LEDGER_SCHEMA not in entries:
            entries[_LEDGER_SCHEMA] = Entry(own_schema(name))
    roots = entries.get(_ROOTS_FILE)
    if roots is not None and _ROOTS_FILE not in has_own and isinstance(roots.value, str) and roots.value:
        entries[_ROOTS_FILE] = Entry(own_file(roots.value, name), roots.origin)


def _defaults(environ: Mapping[str, str]) -> Source:
    folder = environ.get("STATE_DIRECTORY", "").split(":")[0]
    entry = Entry(f"sqlite:///{folder}/watcher.db", "$STATE_DIRECTORY")
    return Source({("ledger", "url"): entry} if folder else {})


def _merged(sources: Sequence[Source]) -> dict[Key, Entry]:
    """Return one entry for each key, of the first source that has it."""
    return {key: entry for source in reversed(sources) for key, entry in source.entries.items()}


def _tables(entries: Mapping[Key, Entry]) -> dict[str, Any]:
    """Return the values as nested tables, as the model takes them."""
    tables: dict[str, Any] = {}
    for (section, name), entry in entries.items():
        table = tables
        for part in section.split("."):
            table = table.setdefault(part, {})
        table[name] = entry.value
    return tables


def _rules(entries: Mapping[Key, Entry]) -> Iterator[str]:
    """Yield the problems between tables."""
    values = {key: entry.value for key, entry in entries.items()}
    ledger_url = values.get(("ledger", "url"), FIELDS["ledger", "url"].default)
    named = _named_roles(values.get(("daemon", "roles"), ROLES))
    runs_hook = named is None or "respond" in named
    if runs_hook and values.get(("operator", "api")) != "none" and values.get(("hook", "target"), "") == "":
        yield 'hook.target: is required (or set operator.api = "none" to observe only)'
    if named is not None and set(named) < set(ROLES) and str(ledger_url).startswith("sqlite:"):
        yield (
            f"daemon.roles: must name all roles ({', '.join(ROLES)}) with a SQLite ledger, which one process writes; "
            "roles are for processes that share a ledger on PostgreSQL"
        )
    if _is_of_ledger(values.get(("audit", "roots_file")), ledger_url):
        yield "audit.roots_file: must not be a file of the ledger"


def _named_roles(value: Any) -> tuple[str, ...] | None:
    """Return the roles in a value of daemon.roles, None if it is wrong, which the model reports."""
    try:
        names: tuple[str, ...] = roles(value)
    except ValueError:
        return None
    return names


def _is_of_ledger(file: Any, ledger_url: Any) -> bool:
    """Return True if a path is the file of a SQLite ledger, or one beside it.

    To open and close that file would drop the locks that SQLite holds on it.
    """
    if not file or not all(isinstance(text, str) and "\0" not in text for text in (file, ledger_url)):
        return False
    ledger = ledger_url.removeprefix("sqlite:///")
    paths = (ledger + suffix for suffix in ("", "-wal", "-shm", "-journal", ".lock"))
    return ledger != ledger_url and os.path.realpath(file) in {os.path.realpath(path) for path in paths}


def _private_texts(sources: Sequence[Source]) -> set[str]:
    """Return every text in the values of keys that can hide a secret, however wrong its shape."""
    private = {key for key, known in FIELDS.items() if is_private(known)}
    texts: set[str] = set()
    waiting = [entry.value for source in sources for key, entry in source.entries.items() if key in private]
    waiting += [value for source in sources for value in source.refused]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            texts.add(value)
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += value
    return texts
