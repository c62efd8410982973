"""The names of a setting outside the file: its environment variable and its credential file.

Invariant: only a name of the form TABLE__KEY can be ours, so that variables of other programs never stop the start,
and a typo in a name of ours always does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from watcher.settings.model import Settings
from watcher.settings.problems import Key
from watcher.text import did_you_mean

PREFIX = "WATCHER_"
# Names of ours that are no settings.
OTHER_NAMES = frozenset({"WATCHER_ANVIL", "WATCHER_AVS", "WATCHER_CONFIG", "WATCHER_LOG"})
# The similarity from which a name is a typo of a known one: in a table of ours, and elsewhere.
_TYPO, _CLOSE = 0.6, 0.85


@dataclass(frozen=True, slots=True)
class Name:
    """A name that is no setting. `is_ours`: it can only be a typo; `hint` has the setting that was probably meant."""

    is_ours: bool
    hint: str


def env_name(key: Key, avs: str = "") -> str:
    """Return the environment variable of a setting, of all AVSs or of one."""
    return f"{PREFIX}{credential_name(key, avs.replace('-', '_'))}".upper()


def credential_name(key: Key, avs: str = "") -> str:
    """Return the file of a setting in `$CREDENTIALS_DIRECTORY`, of all AVSs or of one."""
    return "__".join([*([avs] if avs else []), *".".join(key).split(".")])


def avs_of(name: str, avss: Sequence[str]) -> str:
    """Return the AVS that an environment variable or a credential file is for, "" for all."""
    first = name.removeprefix(PREFIX).lower().partition("__")[0]
    return next((avs for avs in avss if first in (avs, avs.replace("-", "_"))), "")


def name_of(name: str, known: Sequence[str], avss: Sequence[str] = ()) -> Name:
    """Classify a name that is none of `known`: ours with a typo, near to one of ours, or of another program.

    WATCHER_CHAIN__RPC_URL and WATCHER_CHIAN__RPC_URLS are typos; WATCHER_LEDGER_URL and `operator_password` are only
    near, because the separator is missing; WATCHER_HOME and `tls.key` belong to others.
    """
    upper = known[0].isupper()
    table, separator, _ = name.lower().removeprefix(PREFIX.lower()).partition("__")
    in_our_table = bool(separator) and (table in Settings.model_fields or avs_of(name, avss) != "")
    hint = did_you_mean(name.upper() if upper else name, known, cutoff=_TYPO if in_our_table else _CLOSE)
    return Name(in_our_table or bool(separator and hint), hint)
