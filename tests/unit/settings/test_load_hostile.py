"""Nothing in a file, the environment or a credential makes loading end otherwise than in words without secrets."""

import contextlib
import json
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from watcher.errors import FixConfiguration
from watcher.settings.load import load
from watcher.settings.names import env_name
from watcher.settings.problems import FIELDS, is_private

CANARY = "cAnArY7f3a"
VALID: dict[str, dict[str, Any]] = {
    "chain": {"rpc_urls": ["http://127.0.0.1:8545"], "chain_id": 1},
    "task_manager": {"address": "0x" + "ab" * 20, "start_block": 0},
    "hook": {"target": "a:b"},
    "operator": {"url": "http://127.0.0.1:1"},
}

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["latest", "safe", "proxy", "operator", "none", "http://[", "http://h:x", "sqlite:///", "::1"])
    | st.text(alphabet="\x00\x1b\n\u202e\ud800:/@?#[]%", max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
secret_values = st.recursive(
    st.sampled_from(
        [CANARY, f"https://u:{CANARY}@h/{CANARY}?k={CANARY}", f"x\n{CANARY}", f"postgresql://u:{CANARY}@[h/d"]
    ),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=2) | st.dictionaries(st.sampled_from([CANARY, "k"]), inner, max_size=2)
    ),
    max_leaves=4,
)
sections = st.sampled_from(sorted({section for section, _ in FIELDS})) | st.text(max_size=8)
names = st.sampled_from(sorted({name for _, name in FIELDS})) | st.text(max_size=12)
tables = st.dictionaries(sections, st.dictionaries(names, values, max_size=4) | scalars, max_size=4)
private_keys = sorted(key for key, field in FIELDS.items() if is_private(field))


def outcome(path: Path | None, overrides: dict[str, Any], environ: dict[str, str]) -> str:
    """The words of a refusal, or nothing. Any other exception fails the test."""
    refusal: FixConfiguration | None = None
    try:
        load(path, overrides, environ)
    except FixConfiguration as error:
        refusal = error
    if refusal is None:
        return ""
    assert refusal.problems
    assert all(problem.strip() and problem.isprintable() for problem in refusal.problems)
    assert refusal.__cause__ is None
    return str(refusal)


def as_toml(table: dict[str, Any], prefix: str = "") -> str:
    """Good enough TOML of any nested dictionary: inline tables, quoted keys."""
    return "".join(f"{json.dumps(key)} = {_inline(value)}\n" for key, value in table.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps("null" if value is None else value)


FAST = settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])


@fuzzed
@given(tables)
def test_any_tables_end_in_settings_or_in_words(changes: dict[str, Any]) -> None:
    merged: dict[str, Any] = {**VALID}
    for section, table in changes.items():
        merged[section] = {**VALID.get(section, {}), **table} if isinstance(table, dict) else table
    with TemporaryDirectory() as folder:
        path = Path(folder) / "w.toml"
        path.write_bytes(as_toml(merged).encode("utf-8", "surrogatepass"))
        outcome(path, {}, {"WATCHER_OPERATOR__PASSWORD": "x" * 8})


@fuzzed
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.integers(0, 200), st.integers(0, 60))
def test_any_bytes_in_the_file_end_in_words(noise: bytes, at: int, cut: int) -> None:
    data = as_toml(VALID).encode()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "w.toml"
        path.write_bytes(data[:at] + noise + data[at + cut :])
        outcome(path, {}, {})


@fuzzed
@given(
    st.dictionaries(
        st.sampled_from([env_name(key) for key in FIELDS]) | st.text(max_size=10).map("WATCHER_".__add__),
        st.text(max_size=20) | values.map(lambda value: json.dumps(value)) | st.just("[" * 20_000),
        max_size=5,
    )
)
def test_any_environment_ends_in_words(environ: dict[str, str]) -> None:
    outcome(None, {}, environ)


@FAST
@given(st.sampled_from(private_keys), secret_values, st.booleans(), st.dictionaries(names, scalars, max_size=3))
def test_a_secret_of_any_shape_is_in_no_words(
    key: tuple[str, str], secret: Any, in_environment: bool, noise: dict[str, Any]
) -> None:
    tables = {section: dict(table) for section, table in VALID.items()}
    environ = {}
    if in_environment:
        environ[env_name(key)] = secret if isinstance(secret, str) else json.dumps(secret)
    else:
        outer, _, inner = key[0].partition(".")
        table = tables.setdefault(outer, {})
        (table.setdefault(inner, {}) if inner else table)[key[1]] = secret
    # The same secret, pasted by mistake where values are otherwise shown.
    tables.setdefault("log", {})["level"] = secret
    tables["chain"] |= {name: value for name, value in noise.items() if name not in tables["chain"]}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "w.toml"
        path.write_bytes(as_toml(tables).encode("utf-8", "surrogatepass"))
        with contextlib.suppress(ValueError):
            tomllib.loads(path.read_text())
        assert CANARY.lower() not in outcome(path, {}, environ).lower()


def test_a_secret_in_broken_toml_is_in_no_words(tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    for text in (
        f'[operator]\nurl = "https://u:{CANARY}@h\n',
        f"[operator]\nurl = {CANARY}\n",
        f'[operator]\nurl = "a" "{CANARY}"\n',
        f"[operator]\npassword = {{ {CANARY} = 1, {CANARY} = 2 }}\n",
        f'["https://u:{CANARY}@h/{CANARY}"]\nx = 1\n',
    ):
        path.write_text(text)
        message = outcome(path, {}, {})
        assert message
        assert CANARY not in message
