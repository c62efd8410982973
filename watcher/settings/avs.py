"""The AVSs of a configuration: `[[avs]]` tables in the file, or a folder with a file for each.

Invariant: an AVS whose part is wrong keeps its name and its problems, so that the others run without it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watcher.errors import FixConfiguration, FixUsage
from watcher.settings import tomltext
from watcher.settings.model import Settings
from watcher.settings.problems import limited, shown_name
from watcher.text import did_you_mean, escape

# One server, one log and one process for all AVSs.
PROCESS_TABLES = ("http", "log", "daemon")
COMMON_FILE = "watcher.toml"
_LIMIT = 1000
# It stands in URLs, in names of files and schemas, and, with _ for -, in variables of the environment.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_NAME_RULE = "must be a name: a letter, then letters, digits and hyphens, all small, 40 at most"


@dataclass(frozen=True, slots=True)
class Avs:
    """One AVS. `name` is "" for the only one of a file without [[avs]]; `problems` say why there are no settings."""

    name: str
    settings: Settings | None = None
    problems: tuple[str, ...] = ()

    def usable(self) -> Settings:
        """Return the settings. Raises FixConfiguration with every problem, without the name of the AVS."""
        if self.settings is None:
            raise FixConfiguration(*self.problems)
        return self.settings


@dataclass(slots=True)
class AvsTables:
    """The tables of one AVS as its file has them, and why they cannot be read."""

    name: str
    tables: Mapping[str, Any] = field(default_factory=dict)
    problems: Sequence[str] = ()


@dataclass(slots=True)
class Files:
    """The tables for all AVSs, and those of each; none: the file has one AVS, without a name."""

    common: Mapping[str, Any] = field(default_factory=dict)
    avss: Sequence[AvsTables] = ()


def read_files(path: Path | None) -> Files:
    """Return the tables of a file or a folder.

    Raises:
        FixConfiguration: it cannot be read at all, or the AVSs cannot be told apart.
    """
    if path is None:
        return Files()
    if path.is_dir():
        return _read_folder(path)
    common = tomltext.parse(path)
    if "avs" not in common:
        return Files(common)
    avss = list(_tables_of(common.pop("avs")))
    _refuse_names([each.name for each in avss], "avs")
    return Files(common, avss)


def _read_folder(folder: Path) -> Files:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".toml" and not path.name.startswith("."))
    except OSError as error:
        raise FixConfiguration(f"{escape(str(folder))}: cannot be read ({error.strerror})") from None
    common = tomltext.parse(folder / COMMON_FILE) if folder / COMMON_FILE in paths else {}
    own = [path for path in paths if path.name != COMMON_FILE]
    if not own:
        raise FixConfiguration(f"{escape(str(folder))}: is a folder that holds no AVS; give each a file NAME.toml")
    if "avs" in common:
        raise FixConfiguration(f"{COMMON_FILE}: in a folder each AVS has a file of its own, and no [[avs]]")
    _refuse_names([path.stem for path in own], escape(str(folder)))
    return Files(common, [_read_one(path) for path in own])


def _read_one(path: Path) -> AvsTables:
    try:
        return AvsTables(path.stem, tomltext.parse(path))
    except FixConfiguration as error:
        return AvsTables(path.stem, problems=error.problems)


def _tables_of(value: Any) -> Iterator[AvsTables]:
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value) or not value:
        raise FixConfiguration("avs: must be tables, one [[avs]] for each AVS")
    for table in value:
        name = table.get("name", "")
        rest = {key: inner for key, inner in table.items() if key != "name"}
        yield AvsTables(name if isinstance(name, str) else "", rest)


def _refuse_names(names: Sequence[str], where: str) -> None:
    """Raise FixConfiguration where AVSs have no names of their own."""
    problems = []
    if len(names) > _LIMIT:
        problems.append(f"{where}: {len(names)} AVSs are too many for one process; {_LIMIT} at most")
    for place, name in enumerate(names, 1):
        label = shown_name(name) or f"number {place}"
        if not _NAME.fullmatch(name):
            problems.append(f"{where}, {label}: {_NAME_RULE}")
        elif name in Settings.model_fields or name in ("avs", "watcher"):
            problems.append(f"{where}, {label}: this name means something else; choose another one")
        elif name in names[: place - 1]:
            problems.append(f"{where}, {label}: two AVSs have this name")
    if problems:
        raise FixConfiguration(*limited(problems))


def own_file(path: str, name: str) -> str:
    """Return the path of an AVS's own file beside one that all AVSs have in common."""
    folder, slash, file = path.rpartition("/")
    stem, dot, suffix = file.rpartition(".")
    own = f"{stem}-{name}{dot}{suffix}" if stem else f"{file}-{name}"
    return f"{folder}{slash}{own}"


def own_schema(name: str) -> str:
    """Return the PostgreSQL schema of an AVS that the settings give none."""
    return "avs_" + name.replace("-", "_")


def refuse_doubles(avss: Sequence[Avs]) -> list[Avs]:
    """Return the AVSs; one that has the contract or the ledger file of an earlier one gets a problem instead."""
    contracts: dict[tuple[int, str], str] = {}
    ledgers: dict[str, str] = {}
    checked = []
    for avs in avss:
        if avs.settings is None:
            checked.append(avs)
            continue
        settings, problems = avs.settings, []
        contract = (settings.chain.chain_id, settings.task_manager.address)
        if (other := contracts.setdefault(contract, avs.name)) != avs.name:
            problems.append(
                f"task_manager.address: {other} has this contract on this chain, too; both would answer its tasks"
            )
        url = settings.ledger.url
        if url.startswith("sqlite:") and (other := ledgers.setdefault(url, avs.name)) != avs.name:
            problems.append(f"ledger.url: {other} has this file, too; give each AVS a ledger of its own")
        checked.append(Avs(avs.name, None, tuple(problems)) if problems else avs)
    return checked


def chosen(avss: Sequence[Avs], name: str | None) -> Avs:
    """Return the AVS of this name, or the only one.

    Raises:
        FixUsage: there are several, or there is none of this name.
    """
    names = [avs.name for avs in avss]
    if name is None:
        if len(avss) == 1:
            return avss[0]
        raise FixUsage(f"--avs: the settings have several AVSs; name one of {_listed(names)}")
    if name in names and name:
        return avss[names.index(name)]
    if names == [""]:
        raise FixUsage("--avs: the settings have one AVS without a name; leave --avs out")
    raise FixUsage(f"--avs: there is no AVS {shown_name(name)}{did_you_mean(name, names)}; there is {_listed(names)}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def problems_of(avss: Sequence[Avs]) -> list[str]:
    """Return the problems of all AVSs, each with the name of its AVS; what all have in common stands there once."""
    common = [line for line in (avss[0].problems if avss else ()) if all(line in avs.problems for avs in avss)]
    named = [f"{avs.name}: {line}" if avs.name else line for avs in avss for line in avs.problems if line not in common]
    return limited([*common, *named])
