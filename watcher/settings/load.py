"""The sources of the settings: command line, environment, credential files, TOML file, defaults, in this order.

Each source is a flat mapping from (table, key) to a value with its origin, so that merging is a union of mappings.
Invariant: whatever the sources hold, `load` returns valid settings or raises `FixConfiguration` with every problem.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr, ValidationError

from watcher.errors import FixConfiguration
from watcher.files import read_text
from watcher.settings import tomltext
from watcher.settings.decode import decode
from watcher.settings.model import Settings
from watcher.settings.names import OTHER_NAMES, PREFIX, Name, credential_name, env_name, name_of
from watcher.settings.problems import (
    FIELDS,
    SECTIONS,
    Entry,
    Key,
    is_private,
    limited,
    render,
    shown_name,
    unknown_key,
)
from watcher.text import Redactor

CREDENTIAL_LIMIT_BYTES = 64 * 1024
_MAX_CREDENTIALS = 1000

# For settings without a usable default.
_STAND_INS: Mapping[Key, Any] = {
    ("chain", "rpc_urls"): ["http://refused.invalid"],
    ("chain", "chain_id"): 1,
    ("task_manager", "address"): "0x" + "11" * 20,
    ("task_manager", "start_block"): 0,
    ("hook", "target"): "refused",
    ("operator", "url"): "https://refused.invalid",
    ("operator", "avs_name"): "refused",
    ("operator", "password"): "refused",
    ("operator.direct", "password"): "refused",
}


@dataclass(slots=True)
class Source:
    """The values of one source by flat key, and the problems of the source itself."""

    entries: dict[Key, Entry] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # possible mistakes, which may be names of other programs
    refused: list[Any] = field(default_factory=list)  # values that are not used, and may hold secrets

    def note(self, name: Name, message: str) -> None:
        """Record a name that is no setting: as a problem, as a remark, or not at all."""
        if name.is_ours:
            self.problems.append(message + name.hint)
        elif name.hint:
            self.remarks.append(message + name.hint)


def load(
    config_path: Path | None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
    warn: Callable[[str], None] = lambda _remark: None,
) -> Settings:
    """Read, merge and check all settings.

    Args:
        config_path: the TOML file, which must exist; None reads none.
        overrides: the options of the command line, as `{"log.level": "debug"}`; None values count as absent.
        environ: the process's environment.
        warn: takes each line about a name that resembles one of ours and does not stop the start.

    Raises:
        FixConfiguration: every problem, one line each, without secrets.
    """
    sources = [
        from_overrides(overrides or {}),
        from_environment(environ),
        from_credentials(environ.get("CREDENTIALS_DIRECTORY", "")),
    ]
    problems = [problem for source in sources for problem in source.problems]
    try:
        sources.append(from_file(config_path))
    except FixConfiguration as error:
        # Without the file nearly every key would be reported as missing: report only what is certain.
        raise FixConfiguration(*limited([*error.problems, *problems])) from None
    problems += sources[-1].problems
    sources.append(_defaults(environ))
    entries = _merged(sources)
    settings = None
    try:
        settings = Settings(**_tables(entries))
    except ValidationError as error:
        # `from None`, and without the error: it holds the raw input.
        problems += render(error, entries, Redactor(_private_texts(sources)))
    problems += _rules(entries)
    remarks = limited([remark for source in sources for remark in source.remarks])
    if problems or settings is None:
        # A remark may be the reason why a setting is missing.
        raise FixConfiguration(*limited([*problems, *remarks]))
    for remark in remarks:
        warn(remark)
    return settings


def from_overrides(overrides: Mapping[str, Any]) -> Source:
    """Return the options of the command line. Text is decoded as text of the environment is."""
    source = Source()
    for name, value in overrides.items():
        section, _, name_in_section = name.rpartition(".")
        key = section, name_in_section
        if key not in FIELDS:
            source.problems.append(unknown_key(key))
        elif value is not None:
            decoded = decode(FIELDS[key], value) if isinstance(value, str) else value
            source.entries[key] = Entry(decoded, "the command line")
    return source


def from_environment(environ: Mapping[str, str]) -> Source:
    """Return the values of every `WATCHER_TABLE__KEY`. A typo in one is a problem; other names are left alone."""
    source = Source()
    known = {env_name(key): key for key in FIELDS}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in OTHER_NAMES:
            continue
        key = known.get(name)
        if key is None:
            source.note(name_of(name, list(known)), f"{shown_name(name)}: is not a known setting in the environment")
        else:
            source.entries[key] = Entry(decode(FIELDS[key], environ[name]), name)
    return source


def from_credentials(folder: str) -> Source:
    """Return the values of every file in the credentials folder that has a setting's name."""
    source = Source()
    if not folder:
        return source
    known = {credential_name(key): key for key in FIELDS}
    try:
        with os.scandir(folder) as files:
            names = sorted(file.name for file in islice(files, _MAX_CREDENTIALS))
    except (OSError, ValueError):
        source.remarks.append("$CREDENTIALS_DIRECTORY: cannot be read; unset it, or let systemd set it")
        return source
    for name in names:
        key = known.get(name)
        if key is not None:
            _read_credential(source, key, Path(folder) / name)
        else:
            source.note(name_of(name, list(known)), f"credential file {shown_name(name)}: is not a known setting")
    return source


def _read_credential(source: Source, key: Key, path: Path) -> None:
    origin = f"credential file {path.name}"
    try:
        text = read_text(path, CREDENTIAL_LIMIT_BYTES).rstrip("\r\n")
    except FixConfiguration as error:
        source.problems += [f"{origin}: {problem}" for problem in error.problems]
        text = ""
    else:
        if not text:
            source.problems.append(f"{origin}: is empty")
    # An unusable file gets a stand-in: the setting is not missing, and "is required" would mislead.
    source.entries[key] = Entry(decode(FIELDS[key], text) if text else _stand_in(key), origin)


def from_file(path: Path | None) -> Source:
    """Return the values of the TOML file.

    Raises:
        FixConfiguration: the file cannot be read or parsed at all.
    """
    source = Source()
    if path is None:
        return source
    for name, table in tomltext.parse(path).items():
        if name in Settings.model_fields:
            _read_table(source, name, table)
        else:
            source.problems.append(unknown_key((name,)))
    for key, known in FIELDS.items():
        if key in source.entries and SecretStr in get_args(known.annotation):
            source.refused.append(source.entries[key].value)
            source.entries[key] = Entry(_stand_in(key))
            advice = f"use {env_name(key)} or the credential file {credential_name(key)}"
            source.problems.append(f"{'.'.join(key)}: a secret must not stand in the configuration file; {advice}")
    return source


def _read_table(source: Source, section: str, table: Any) -> None:
    if not isinstance(table, dict):
        source.refused.append(table)
        source.problems.append(f"{section}: must be a table, [{section}]")
        return
    for name, value in table.items():
        if f"{section}.{name}" in SECTIONS:
            _read_table(source, f"{section}.{name}", value)
        else:
            source.entries[section, name] = Entry(value)


def _stand_in(key: Key) -> Any:
    """Return a valid value for one that is refused already, so that it is not reported twice."""
    return _STAND_INS.get(key, FIELDS[key].default)


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
    if values.get(("operator", "api")) != "none" and values.get(("hook", "target"), "") == "":
        yield 'hook.target: is required (or set operator.api = "none" to observe only)'
    ledger_url = values.get(("ledger", "url"), FIELDS["ledger", "url"].default)
    if _is_of_ledger(values.get(("audit", "roots_file")), ledger_url):
        yield "audit.roots_file: must not be a file of the ledger"


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
