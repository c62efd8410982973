"""The sources of the settings, each a flat mapping from (table, key) to a value with its origin.

Invariant: no source raises for what it holds; a wrong value is a problem of its own, or one that the model reports.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr

from watcher.errors import FixConfiguration
from watcher.files import read_text
from watcher.settings.avs import PROCESS_TABLES
from watcher.settings.decode import decode
from watcher.settings.model import Settings
from watcher.settings.names import OTHER_NAMES, PREFIX, Name, avs_of, credential_name, env_name, name_of
from watcher.settings.problems import FIELDS, SECTIONS, Entry, Key, shown_name, unknown_key

CREDENTIAL_LIMIT_BYTES = 64 * 1024
_MAX_CREDENTIALS = 10_000

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


def from_environment(environ: Mapping[str, str], names: Sequence[str] = ()) -> dict[str, Source]:
    """Return the values of every `WATCHER_TABLE__KEY` under "", and of every `WATCHER_NAME__TABLE__KEY` by AVS.

    A typo in one is a problem; other names are left alone.
    """
    sources = {name: Source() for name in ("", *names)}
    known = {env_name(key, name): (name, key) for name in sources for key in _keys_of(name)}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in OTHER_NAMES:
            continue
        if name in known:
            avs, key = known[name]
            sources[avs].entries[key] = Entry(decode(FIELDS[key], environ[name]), name)
        else:
            message = f"{shown_name(name)}: is not a known setting in the environment"
            sources[avs_of(name, names)].note(name_of(name, list(known), names), message)
    return sources


def from_credentials(folder: str, names: Sequence[str] = ()) -> dict[str, Source]:
    """Return the values of every file in the credentials folder that has a setting's name, as `from_environment`."""
    sources = {name: Source() for name in ("", *names)}
    if not folder:
        return sources
    known = {credential_name(key, name): (name, key) for name in sources for key in _keys_of(name)}
    try:
        with os.scandir(folder) as files:
            file_names = sorted(file.name for file in islice(files, _MAX_CREDENTIALS))
    except (OSError, ValueError):
        sources[""].remarks.append("$CREDENTIALS_DIRECTORY: cannot be read; unset it, or let systemd set it")
        return sources
    for file in file_names:
        if file in known:
            avs, key = known[file]
            _read_credential(sources[avs], key, Path(folder) / file)
        else:
            message = f"credential file {shown_name(file)}: is not a known setting"
            sources[avs_of(file, names)].note(name_of(file, list(known), names), message)
    return sources


def _keys_of(avs: str) -> list[Key]:
    return [key for key in FIELDS if not avs or key[0] not in PROCESS_TABLES]


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


def from_tables(tables: Mapping[str, Any], avs: str = "") -> Source:
    """Return the values of a TOML file, or of the part of it that is for one AVS."""
    source = Source()
    for name, table in tables.items():
        if avs and name in PROCESS_TABLES:
            source.refused.append(table)
            source.problems.append(f"{name}: is one for the whole process; put it into [{name}] for all AVSs")
        elif name in Settings.model_fields:
            _read_table(source, name, table)
        else:
            source.refused.append(table)
            source.problems.append(unknown_key((name,)))
    for key, known in FIELDS.items():
        if key in source.entries and SecretStr in get_args(known.annotation):
            source.refused.append(source.entries[key].value)
            source.entries[key] = Entry(_stand_in(key))
            advice = f"use {env_name(key, avs)} or the credential file {credential_name(key, avs)}"
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
