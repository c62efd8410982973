"""Which source files a hook is made of, by name and SHA-256.

Runs in the worker. Standard library only. Invariant: the bytes that are hashed are the bytes that are compiled; the
bytecode cache is not used for them, because it is chosen by time and size and may belong to another text.
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

_INSTALLED = ("site-packages", "dist-packages")
NO_SOURCE = "no-source"
_VERSION_CHARS = 12


class SourceRecorder:
    """A finder, first on `sys.meta_path`, that records what the others find below `home` and in the hook's package.

    `files` maps the path of each module that was loaded to the hash of its content. Recorded are the modules below
    `home`, without installed packages and this interpreter's own, and the package that holds the hook, wherever it is.
    """

    def __init__(self, home: str, hook_module: str) -> None:
        self._home = Path(home)
        self._package = hook_module.partition(".")[0]
        self._names: dict[str, str] = {}
        self._reported: dict[str, str] = {}
        self.files: dict[str, str] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders find, with a loader that hashes what it compiles."""
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find else None
            if spec is not None:
                if spec.has_location and spec.origin and self._is_recorded(name, spec.origin):
                    self._record(spec, spec.origin)
                return spec
        return None

    def add(self, module: ModuleType) -> None:
        """Record the hook's module where it was loaded before this recorder: a built-in one has no file."""
        file = getattr(module, "__file__", None)
        if file and file not in self.files:
            try:
                self.loaded(module.__name__, file, Path(file).read_bytes())
            except OSError:
                return

    def loaded(self, name: str, path: str, content: bytes) -> None:
        """Record a file as it is loaded."""
        self._names[path] = name
        self.files[path] = hashlib.sha256(content).hexdigest()

    @property
    def version(self) -> str:
        """A short hash of the names and contents of all recorded modules; it does not depend on where they lie."""
        if not self.files:
            return NO_SOURCE
        lines = sorted(f"{self._names[path]} {digest}\n" for path, digest in self.files.items())
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:_VERSION_CHARS]

    def take_new(self) -> Mapping[str, str]:
        """Return the files recorded, or loaded with another content, since the last call."""
        new = {path: digest for path, digest in self.files.items() if self._reported.get(path) != digest}
        self._reported |= new
        return new

    def _is_recorded(self, name: str, origin: str) -> bool:
        if name.partition(".")[0] == self._package:
            return True
        path = Path(origin)
        if (
            not path.is_relative_to(self._home)
            or path.is_relative_to(sys.prefix)
            or path.is_relative_to(sys.base_prefix)
        ):
            return False
        return not any(part in _INSTALLED for part in path.relative_to(self._home).parts)

    def _record(self, spec: ModuleSpec, origin: str) -> None:
        if type(spec.loader) is SourceFileLoader:
            spec.loader = _HashingLoader(spec.loader.name, origin, self)
            return
        # Compiled modules are read by the system's linker: hashed right before it does.
        try:
            self.loaded(spec.name, origin, Path(origin).read_bytes())
        except OSError:
            return  # then the import fails in its own words


class _HashingLoader(SourceFileLoader):
    """Compiles the source it reads, never a cached copy, and records its hash."""

    def __init__(self, name: str, path: str, recorder: SourceRecorder) -> None:
        super().__init__(name, path)
        self._recorder = recorder

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path)
        self._recorder.loaded(fullname, self.path, source)
        code: CodeType = self.source_to_code(source, self.path)
        return code
