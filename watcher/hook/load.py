"""The import of a hook by its target.

A target is `module:attribute` (the attribute may be dotted), `module:factory()`, whose result is the hook, or the name
of an entry point in a group of ENTRY_POINTS. Loading runs the author's code, so only a worker process calls `load`.
Invariant: any behaviour of the author's module ends as a Loaded hook, as FixConfiguration with one line that says what
to change, or as TryLater if the system failed and not the code.
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
from watcher.hook.error_line import describe, location
from watcher.hook.sources import SourceRecorder
from watcher.hook.target import setting
from watcher.hook.version import Origin, module_origin
from watcher.task import Task
from watcher.text import clean, did_you_mean

ENTRY_POINTS = ("avs_watcher.hooks", "avs_task_watcher.hooks")

_MODULE_AND_ATTRIBUTE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*(\(\))?")
# Errors of the code, which no retry corrects; ImportError includes a missing module, SyntaxError bad indentation.
_LASTING = (ImportError, AttributeError, NameError, SyntaxError, TypeError, KeyboardInterrupt)
# Errors of the system, which may pass.
_PASSING = (OSError, TimeoutError, MemoryError)
_CAUSES_LIMIT = 50


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded hook.

    `version` is its path and a short hash of its loaded source. `new_files` returns path and SHA-256 (hex) of each
    module that was loaded since its last call (`watcher.hook.sources`). `origin` reads all of its code.
    """

    function: Callable[[Task], object]
    version: str
    is_async: bool
    new_files: Callable[[], Mapping[str, str]] = field(default=dict)
    origin: Callable[[], Origin] = lambda: Origin("", ())


def load(target: str, app_dir: str) -> Loaded:
    """Import the hook, with `app_dir` first on the import path.

    Raises:
        FixConfiguration: the target or its module is wrong.
        TryLater: the system failed, for example a missing mount.
    """
    home = str(Path(app_dir).absolute())
    check_folder(Path(home))
    sys.path.insert(0, home)
    path = target if ":" in target else _entry_point(target)
    if not _MODULE_AND_ATTRIBUTE.fullmatch(path):
        raise _problem(target, "write it as module:attribute, for example squaring:respond")
    module_name, attribute = path.split(":")
    recorder = SourceRecorder(home, module_name)
    sys.meta_path.insert(0, recorder)
    module = _import(target, module_name, home)
    recorder.add(module)
    function = _attribute(target, module, attribute.removesuffix("()"))
    if attribute.endswith("()"):
        function = _made(target, function, home)
    fitted = fit(function, target, f"{path}@{recorder.version}")
    package = sys.modules.get(module_name.partition(".")[0], module)
    return replace(fitted, new_files=recorder.take_new, origin=lambda: module_origin(path, recorder, package))


def check_folder(home: Path) -> None:
    """Check that the folder exists.

    Raises:
        FixConfiguration: it does not.
        TryLater: it does not, and may be a mount that is missing.
    """
    try:
        if home.is_dir():
            return
        nearest = next(parent for parent in home.parents if parent.is_dir())
        # A mount point is empty until it is mounted; a folder with a misspelt child is not.
        is_unmounted = nearest != home.parents[-1] and not any(nearest.iterdir())
    except OSError as error:
        raise TryLater(f"hook.app_dir: the folder {clean(str(home))} cannot be read now: {error.strerror}") from None
    if is_unmounted:
        raise TryLater(
            f"hook.app_dir: there is no folder {clean(str(home))}, and {clean(str(nearest))} is empty: is it mounted?"
        )
    raise FixConfiguration(f"hook.app_dir: there is no folder {clean(str(home))}")


def fit(function: object, name: str, version: str) -> Loaded:
    """Return the hook if it can be called with one task and returns its answer.

    Args:
        function: the object that the target names.
        name: the target, for messages.
        version: the name of its code.

    Raises:
        FixConfiguration: it is no such function.
    """
    if inspect.isclass(function):
        raise _problem(name, "is a class; name a function, or an instance that can be called")
    if not callable(function):
        raise _problem(name, f"is not callable: it is of type {clean(type(function).__name__, 100)}")
    # An instance is async if its __call__ is.
    code = function if inspect.isroutine(function) or hasattr(function, "func") else type(function).__call__
    if inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code):
        raise _problem(name, "is a generator; use `return`, not `yield`")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        signature = None  # Some built-ins have none; a wrong one fails when it is called.
    if signature is not None:
        try:
            signature.bind(None)
        except TypeError:
            arguments = clean(str(signature), 200)
            raise _problem(
                name, f"takes the wrong number of arguments: it is called with one, the task, and has {arguments}"
            ) from None
    return Loaded(function, version, inspect.iscoroutinefunction(code))


def _entry_point(name: str) -> str:
    from importlib.metadata import entry_points  # It costs 20 ms, which most hooks need not pay.

    entries = [entry for group in ENTRY_POINTS for entry in entry_points(group=group)]
    values = sorted({entry.value for entry in entries if entry.name == name})
    if len(values) == 1:
        return values[0].split("[")[0].replace(" ", "")
    if values:
        raise _problem(
            name, f"several installed packages offer it ({clean(', '.join(values))}); name one as module:attribute"
        )
    hint = did_you_mean(name, [entry.name for entry in entries])
    raise _problem(name, f"is neither module:attribute nor an entry point in the group {ENTRY_POINTS[0]}{hint}")


def _import(target: str, name: str, home: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # No frame outside the import machinery: the target's own module is missing, not one that it imports.
        if location(error.__traceback__) is None:
            hint = did_you_mean(name, _modules_in(home))
            reason = f"there is no module {name} (looked in {clean(home)} and the installed packages){hint}"
            raise _problem(target, reason) from None
        missing = clean((error.name or "it").partition(".")[0], 100)
        reason = f"the module {name} raised while importing: {describe(error, home)}"
        raise _problem(
            target, f"{reason}; install {missing} with {clean(sys.executable)} -m pip, or put it into hook.app_dir"
        ) from None
    except BaseException as error:  # noqa: BLE001  a module may raise anything, SystemExit included
        reason = f"the module {name} raised while importing: {describe(error, home)}"
        if may_pass(error):
            raise TryLater(f"{setting(target)}: {reason}") from None
        raise _problem(target, reason) from None


def may_pass(error: BaseException) -> bool:
    """Return True if an import failed for a reason that may pass: network, file system, memory, time-out.

    Libraries wrap such errors in their own, so the causes count too. A wrong module, name or syntax does not pass,
    even if a system error caused it.
    """
    if isinstance(error, _LASTING) or (isinstance(error, MemoryError) and memory.is_limited()):
        return False
    return any(isinstance(cause, _PASSING) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, its causes and contexts, and the members of groups."""
    pending: list[BaseException] = [error]
    seen: set[int] = set()
    while pending and len(seen) < _CAUSES_LIMIT:
        error = pending.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        cause = error.__cause__ if error.__suppress_context__ else error.__cause__ or error.__context__
        pending += [cause] if cause is not None else []
        if isinstance(error, BaseExceptionGroup):
            pending += error.exceptions


def _attribute(target: str, module: ModuleType, path: str) -> object:
    value: object = module
    for name in path.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            hint = did_you_mean(name, [known for known in dir(value) if not known.startswith("_")])
            raise _problem(target, f"the module {module.__name__} has no {path}{hint}") from None
        except BaseException as error:  # noqa: BLE001  a module's __getattr__ is the author's code too
            raise _problem(target, f"looking up {path} raised {describe(error)}") from None
    return value


def _made(target: str, factory: object, home: str) -> object:
    """Return the hook that a factory makes."""
    if not callable(factory):
        raise _problem(target, f"the factory is not callable: it is of type {clean(type(factory).__name__, 100)}")
    try:
        return factory()
    except BaseException as error:  # noqa: BLE001  the author's code may raise anything, SystemExit included
        reason = f"the factory raised {describe(error, home)}"
        if may_pass(error):
            raise TryLater(f"{setting(target)}: {reason}") from None
        raise _problem(target, reason) from None


def _modules_in(folder: str) -> list[str]:
    try:
        paths = list(islice(Path(folder).iterdir(), 1000))
    except OSError:
        return []
    return [path.stem for path in paths if path.suffix in ("", ".py")]


def _problem(target: str, reason: str) -> FixConfiguration:
    return FixConfiguration(f"{setting(target)}: {reason}")
