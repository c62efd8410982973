"""From the name of a hook to the function itself.

A target is `module:attribute` (the attribute may be dotted) or the name of an entry point in the group
`avs_watcher.hooks`. Loading runs the author's code, so only the worker process calls `load`. Invariant: whatever the
author's module does, the caller sees a Loaded hook, FixConfiguration with one line that says what to change, or
TryLater where the system, and not the code, failed.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import ModuleType

from watcher.errors import FixConfiguration, TryLater
from watcher.hook import memory
from watcher.hook.sources import SourceRecorder
from watcher.task import Task
from watcher.text import clean, describe, did_you_mean, location, setting

ENTRY_POINTS = "avs_watcher.hooks"

_MODULE_AND_ATTRIBUTE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
# No exception of these becomes right with time; ImportError includes a missing module, SyntaxError bad indentation.
_LASTING = (ImportError, AttributeError, NameError, SyntaxError, TypeError, KeyboardInterrupt)
_PASSING = (OSError, TimeoutError, MemoryError)
_CAUSES_LIMIT = 50
_NOT_YET = re.compile(r"(exec|https?):")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A hook that can be called. `version` is the target and a short hash of the source it was loaded from.

    `new_files` returns path and SHA-256 of the modules loaded since it was last called (`watcher.hook.sources`).
    """

    function: Callable[[Task], object]
    version: str
    is_async: bool
    new_files: Callable[[], Mapping[str, str]] = field(default=dict)


def load(target: str, app_dir: str) -> Loaded:
    """Import the hook, with `app_dir` first on the import path. Raises FixConfiguration, TryLater."""
    if _NOT_YET.match(target):
        scheme = target.split(":", 1)[0]
        raise _problem(
            target, f"{scheme}: hooks are not available in this version; name a Python function, module:attribute"
        )
    home = str(Path(app_dir).absolute())
    _check_folder(Path(home))
    sys.path.insert(0, home)
    path = target if ":" in target else _entry_point(target)
    if not _MODULE_AND_ATTRIBUTE.fullmatch(path):
        raise _problem(target, "write it as module:attribute, for example squaring:respond")
    module_name, attribute = path.split(":")
    recorder = SourceRecorder(home, module_name)
    sys.meta_path.insert(0, recorder)
    module = _import(target, module_name, home)
    recorder.add(module)
    function = _attribute(target, module, attribute)
    fitted = fit(function, target, f"{path}@{recorder.version}")
    return replace(fitted, new_files=recorder.take_new)


def _check_folder(home: Path) -> None:
    """Raises FixConfiguration for a folder that is not there, TryLater where it may be a missing mount."""
    try:
        if home.is_dir():
            return
        nearest = next(parent for parent in home.parents if parent.is_dir())
        # The folder of a mount is empty until it is mounted; beside a misspelt name lies something.
        is_unmounted = nearest != home.parents[-1] and not any(nearest.iterdir())
    except OSError as error:
        raise TryLater(f"hook.app_dir: the folder {clean(str(home))} cannot be read now: {error.strerror}") from None
    if is_unmounted:
        raise TryLater(
            f"hook.app_dir: there is no folder {clean(str(home))}, and {clean(str(nearest))} is empty: is it mounted?"
        )
    raise FixConfiguration(f"hook.app_dir: there is no folder {clean(str(home))}")


def fit(function: object, name: str, version: str) -> Loaded:
    """Check that this can be called with one task and returns rather than yields. Raises FixConfiguration."""
    if inspect.isclass(function):
        raise _problem(name, "is a class; name a function, or an instance that can be called")
    if not callable(function):
        raise _problem(name, f"is not callable: it is of type {clean(type(function).__name__, 100)}")
    # An instance is as async as its __call__.
    code = function if inspect.isroutine(function) or hasattr(function, "func") else type(function).__call__
    if inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code):
        raise _problem(name, "is a generator; use `return`, not `yield`")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        signature = None  # some built-ins have none; calling them will tell
    if signature is not None:
        try:
            signature.bind(None)
        except TypeError:
            given = clean(str(signature), 200)
            raise _problem(
                name, f"takes the wrong number of arguments: it is called with one, the task, and has {given}"
            ) from None
    return Loaded(function, version, inspect.iscoroutinefunction(code))


def _entry_point(name: str) -> str:
    from importlib.metadata import entry_points  # 20 ms that most hooks need not pay

    found = entry_points(group=ENTRY_POINTS)
    values = sorted({entry.value for entry in found if entry.name == name})
    if len(values) == 1:
        return values[0].split("[")[0].replace(" ", "")
    if values:
        raise _problem(
            name, f"several installed packages offer it ({clean(', '.join(values))}); name one as module:attribute"
        )
    hint = did_you_mean(name, [entry.name for entry in found])
    raise _problem(name, f"is neither module:attribute nor an entry point in the group {ENTRY_POINTS}{hint}")


def _import(target: str, name: str, home: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # No frame of anybody's code below the import machinery: it was the module itself that is missing.
        if location(error.__traceback__) is None:
            hint = did_you_mean(name, _modules_in(home))
            words = f"there is no module {name} (looked in {clean(home)} and the installed packages){hint}"
            raise _problem(target, words) from None
        raise _problem(target, f"the module {name} raised while importing: {describe(error, home)}") from None
    except BaseException as error:  # noqa: BLE001  a module may raise SystemExit as well as anything else
        words = f"the module {name} raised while importing: {describe(error, home)}"
        if may_pass(error):
            raise TryLater(f"{setting(target)}: {words}") from None
        raise _problem(target, words) from None


def may_pass(error: BaseException) -> bool:
    """Return True if the import failed for a reason that may pass: the network, a file system, memory, a time-out.

    Libraries wrap such errors in their own, which need not be OSErrors, so the causes count too. A module, a name or
    a syntax that is wrong stays wrong, whatever the system did before.
    """
    if isinstance(error, _LASTING) or (isinstance(error, MemoryError) and memory.is_limited()):
        return False
    return any(isinstance(one, _PASSING) for one in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < _CAUSES_LIMIT:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        cause = one.__cause__ if one.__suppress_context__ else one.__cause__ or one.__context__
        waiting += [cause] if cause is not None else []
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def _attribute(target: str, module: ModuleType, path: str) -> object:
    found: object = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            hint = did_you_mean(name, [n for n in dir(found) if not n.startswith("_")])
            raise _problem(target, f"the module {module.__name__} has no {path}{hint}") from None
        except BaseException as error:  # noqa: BLE001  a module's __getattr__ is the author's code too
            raise _problem(target, f"looking up {path} raised {describe(error)}") from None
    return found


def _modules_in(folder: str) -> list[str]:
    try:
        paths = list(islice(Path(folder).iterdir(), 1000))
    except OSError:
        return []
    return [path.stem for path in paths if path.suffix in ("", ".py")]


def _problem(target: str, words: str) -> FixConfiguration:
    return FixConfiguration(f"{setting(target)}: {words}")
