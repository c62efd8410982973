"""Where settings come from: command line, environment, credential files, the TOML file, in this order of precedence.

Invariant: whatever these hold, `load` returns valid settings or raises `FixConfiguration` with every problem at once.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from watcher.errors import FixConfiguration
from watcher.files import read_text
from watcher.settings import tomltext
from watcher.settings.decode import decode
from watcher.settings.model import Settings
from watcher.settings.names import OTHER_NAMES, PREFIX, Name, credential_name, env_name, name_of
from watcher.settings.problems import FIELDS, SECTIONS, Key, is_private, limited, render, shown_name, unknown_key
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
class Layer:
    """What one source says: tables of values, where each is from, and what is wrong with the source itself."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # what may be a mistake, and may as well be somebody else's
    refused: list[Any] = field(default_factory=list)  # secrets that are no value any more, and still must not be shown

    def note(self, name: Name, words: str) -> None:
        """Keep what is to be said about a name that is no setting."""
        if name.is_ours:
            self.problems.append(words + name.hint)
        elif name.hint:
            self.remarks.append(words + name.hint)

    def put(self, key: Key, value: Any, origin: str) -> None:
        table = self.values
        for part in key[0].split("."):
            table = table.setdefault(part, {})
        table[key[1]] = value
        self.origins[key] = origin

    def table(self, section: str) -> Any:
        """The table of this name, `{}` where there is none."""
        table: Any = self.values
        for part in section.split("."):
            table = table.get(part, {}) if isinstance(table, dict) else {}
        return table

    def given(self) -> Iterator[tuple[Key, Any]]:
        inner = {section: self.table(section) for section in SECTIONS if "." in section}
        for section, table in (*self.values.items(), *inner.items()):
            if isinstance(table, dict):
                yield from (((section, name), value) for name, value in table.items())


def load(
    config_path: Path | None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
    warn: Callable[[str], None] = lambda _words: None,
) -> Settings:
    """Read, merge and check all settings.

    Args:
        config_path: the TOML file, which must exist; None reads none.
        overrides: what the command line asks for, as `{"log.level": "debug"}`; None values count as not given.
        environ: the process's environment.
        warn: is given each line about a name that is near to one of ours and does not stop the start.

    Raises:
        FixConfiguration: every problem there is, one line each, without secrets.
    """
    layers = [
        from_overrides(overrides or {}),
        from_environment(environ),
        from_credentials(environ.get("CREDENTIALS_DIRECTORY", "")),
    ]
    problems = [problem for layer in layers for problem in layer.problems]
    try:
        layers.append(from_file(config_path))
    except FixConfiguration as error:
        # Without the file nearly every key would be reported as missing: say only what is certain.
        raise FixConfiguration(*limited([*error.problems, *problems])) from None
    problems += layers[-1].problems
    layers.append(_defaults(environ))
    try:
        settings = _merged(layers)
    except ValidationError as error:
        settings = None
        values, origins = _effective(layers)
        # `from None`, and no value in it: what pydantic raised holds the raw input.
        problems += render(error, values, origins, Redactor(_private_texts(layers)))
    problems += _rules(layers)
    remarks = limited([remark for layer in layers for remark in layer.remarks])
    if problems or settings is None:
        # What is missing may be missing because of them.
        raise FixConfiguration(*limited([*problems, *remarks]))
    for remark in remarks:
        warn(remark)
    return settings


def from_overrides(overrides: Mapping[str, Any]) -> Layer:
    """The command line. Text is read as from the environment."""
    layer = Layer()
    for name, value in overrides.items():
        section, _, key = name.rpartition(".")
        known = FIELDS.get((section, key))
        if known is None:
            layer.problems.append(unknown_key((section, key)))
        elif value is not None:
            layer.put((section, key), decode(known, value) if isinstance(value, str) else value, "the command line")
    return layer


def from_environment(environ: Mapping[str, str]) -> Layer:
    """Every `WATCHER_TABLE__KEY` name. A typo in one is a problem; other names with our prefix belong to others."""
    layer = Layer()
    known = {env_name(key): key for key in FIELDS}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in OTHER_NAMES:
            continue
        key = known.get(name)
        if key is None:
            layer.note(name_of(name, list(known)), f"{shown_name(name)}: is not a known setting in the environment")
        else:
            layer.put(key, decode(FIELDS[key], environ[name]), name)
    return layer


def from_credentials(folder: str) -> Layer:
    """Every file of the credentials folder whose name is a setting's; other services' files are left alone."""
    layer = Layer()
    if not folder:
        return layer
    known = {credential_name(key): key for key in FIELDS}
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in islice(entries, _MAX_CREDENTIALS))
    except (OSError, ValueError):
        layer.remarks.append("$CREDENTIALS_DIRECTORY: cannot be read; unset it, or let systemd set it")
        return layer
    for name in names:
        key = known.get(name)
        if key is not None:
            _read_credential(layer, key, Path(folder) / name)
        else:
            layer.note(name_of(name, list(known)), f"credential file {shown_name(name)}: is not a known setting")
    return layer


def _read_credential(layer: Layer, key: Key, path: Path) -> None:
    where = f"credential file {path.name}"
    try:
        text = read_text(path, CREDENTIAL_LIMIT_BYTES).rstrip("\r\n")
    except FixConfiguration as error:
        layer.problems += [f"{where}: {problem}" for problem in error.problems]
        text = ""
    else:
        if not text:
            layer.problems.append(f"{where}: is empty")
    # Also when it is unusable: the setting was given, and "is required" would mislead.
    layer.put(key, decode(FIELDS[key], text) if text else _placeholder(key), where)


def from_file(path: Path | None) -> Layer:
    """The TOML file.

    Raises:
        FixConfiguration: it cannot be read or parsed at all.
    """
    layer = Layer()
    if path is None:
        return layer
    layer.values = tomltext.parse(path)
    for section in SECTIONS:
        if not isinstance(layer.table(section), dict):
            parent, _, name = section.rpartition(".")
            table = layer.table(parent) if parent else layer.values
            layer.refused.append(table.pop(name))
            layer.problems.append(f"{section}: must be a table, [{section}]")
    for key, known in FIELDS.items():
        table = layer.table(key[0])
        if SecretStr in get_args(known.annotation) and key[1] in table:
            layer.refused.append(table[key[1]])
            table[key[1]] = _placeholder(key)
            words = f"use {env_name(key)} or the credential file {credential_name(key)}"
            layer.problems.append(f"{'.'.join(key)}: a secret must not stand in the configuration file; {words}")
    return layer


def _placeholder(key: Key) -> Any:
    """Something valid for a value that was refused already, so that it is not reported twice."""
    return _STAND_INS.get(key, FIELDS[key].default)


def _defaults(environ: Mapping[str, str]) -> Layer:
    layer = Layer()
    folder = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if folder:
        layer.put(("ledger", "url"), f"sqlite:///{folder}/watcher.db", "$STATE_DIRECTORY")
    return layer


def _merged(layers: list[Layer]) -> Settings:
    class Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_: Any, **__: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return tuple(InitSettingsSource(settings_cls, layer.values) for layer in layers)

    checked = Layered()
    return Settings(**{name: getattr(checked, name) for name in Settings.model_fields})


def _effective(layers: list[Layer]) -> tuple[dict[Key, Any], dict[Key, str]]:
    values: dict[Key, Any] = {}
    origins: dict[Key, str] = {}
    for layer in reversed(layers):
        for key, value in layer.given():
            values[key] = value
            origins.pop(key, None)
        origins.update(layer.origins)
    return values, origins


def _rules(layers: list[Layer]) -> Iterator[str]:
    """What holds between tables."""
    values, _ = _effective(layers)
    if values.get(("operator", "api")) != "none" and values.get(("hook", "target"), "") == "":
        yield 'hook.target: is required (or set operator.api = "none" to observe only)'


def _private_texts(layers: list[Layer]) -> set[str]:
    """Every text given for a key that can hide a secret, however wrong its shape."""
    private = {key for key, known in FIELDS.items() if is_private(known)}
    found: set[str] = set()
    waiting = [value for layer in layers for key, value in layer.given() if key in private]
    waiting += [value for layer in layers for value in layer.refused]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            found.add(value)
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += value
    return found
