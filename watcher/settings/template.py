"""A commented `watcher.toml`, made from the settings themselves, so that it cannot fall behind them.

Invariant: `render` returns TOML that `load` understands, without secrets.
"""

import json
import textwrap
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from watcher.settings.names import credential_name, env_name
from watcher.settings.problems import FIELDS, SECTIONS

_HEADER = """\
# Settings of the AVS task watcher. A line that is commented out shows the default.
# Every setting can also come from the environment, which wins: WATCHER_ and the names joined by __,
# for example WATCHER_CHAIN__CHAIN_ID. All settings with their bounds: docs/settings.md.
# `watcher check --config FILE` lists everything that is wrong at once.
"""
# Without these there is nothing to watch or to send to, although some have an empty default.
_ESSENTIAL = frozenset({"hook.target", "operator.api", "operator.url", "operator.username"})


def render(values: Mapping[str, Any] | None = None) -> str:
    """Return the text of the file.

    `values` are known settings, as `{"chain.chain_id": 31337}`; the others show examples. The example address is
    zero, which `load` refuses, so that it is never watched by accident.
    """
    known = dict(values or {})
    lines = [_HEADER]
    for section, model in SECTIONS.items():
        lines += [*_comment(model.__doc__ or ""), f"[{section}]"]
        for (table, name), field in FIELDS.items():
            if table == section:
                lines += [*_comment(field.description or ""), _entry(section, name, known), ""]
    return "\n".join(lines).rstrip() + "\n"


def toml_value(value: Any) -> str:
    """Return a number, truth value, text or list of these as TOML."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=True)


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 100)]


def _entry(section: str, name: str, known: Mapping[str, Any]) -> str:
    field = FIELDS[section, name]
    dotted = f"{section}.{name}"
    if SecretStr in get_args(field.annotation):
        return f"#   {env_name((section, name))}, or a credential file {credential_name((section, name))}"
    if dotted in known:
        return f"{name} = {toml_value(known[dotted])}"
    if field.default is PydanticUndefined or dotted in _ESSENTIAL:
        example = field.examples[0] if field.examples else field.default
        return f"{name} = {toml_value(example)}"
    return f"# {name} = {toml_value(field.default)}"
