"""The source files of a hook, by path and SHA-256.

Runs in the worker. Standard library only. Invariant: the hashed bytes are the compiled bytes; the bytecode cache is not
used, because it is chosen by time and size and may belong to another text.
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

INSTALLED = ("site-packages", "dist-packages")
NO_SOURCE = "no-source"
_VERSION_CHARS = 12


class SourceRecorder:
    """A finder, first on `sys.meta_path`, that records the modules which the other finders load.

    `files` maps the path of each recorded module to the SHA-256 (hex) of its content. Recorded are the modules below
    `home`, except installed packages and the interpreter's own, and the package of the hook at any place.
    """

    def __init__(self, home: str, hook_module: str) -> None:
        self._home = Path(home)
        self._package = hook_module.partition(".")[0]
        self._names: dict[str, str] = {}
        self._new: dict[str, str] = {}
        self.files: dict[str, str] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the other finders, with a loader that hashes the source it compiles."""
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find else None
            if spec is not None:
                if spec.has_location and spec.origin and self._is_recorded(name, spec.origin):
                    self._record(spec, spec.origin)
                return spec
        return None

    def add(self, module: ModuleType) -> None:
        """Record the hook's module if it was loaded before this recorder. A built-in module has no file."""
        file = getattr(module, "__file__", None)
        if file and file not in self.files:
            try:
                self.loaded(module.__name__, file, Path(file).read_bytes())
            except OSError:
                return

    def loaded(self, name: str, path: str, content: bytes) -> None:
        """Record the content of a module that is being loaded."""
        self._names[path] = name
        digest = hashlib.sha256(content).hexdigest()
        if self.files.get(path) != digest:
            self.files[path] = self._new[path] = digest

    @property
    def modules(self) -> Mapping[str, tuple[str, str]]:
        """Return name and SHA-256 (hex) of each recorded module, by path."""
        return {path: (self._names[path], digest) for path, digest in self.files.items()}

    @property
    def version(self) -> str:
        """Return a short hash of the names and contents of all recorded modules; their folder does not matter."""
        if not self.files:
            return NO_SOURCE
        lines = sorted(f"{self._names[path]} {digest}\n" for path, digest in self.files.items())
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:_VERSION_CHARS]

    def take_new(self) -> Mapping[str, str]:
        """Return the files recorded since the last call, or loaded again with other content."""
        new, self._new = self._new, {}
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
        return not any(part in INSTALLED for part in path.relative_to(self._home).parts)

    def _record(self, spec: ModuleSpec, origin: str) -> None:
        if type(spec.loader) is SourceFileLoader:
            spec.loader = _HashingLoader(spec.loader.name, origin, self)
            return
        # The system's linker reads compiled modules: hash them right before.
        try:
            self.loaded(spec.name, origin, Path(origin).read_bytes())
        except OSError:
            return  # The import itself then fails and says why.


class _HashingLoader(SourceFileLoader):
    """A loader that compiles the source it reads, never a cached copy, and records its hash."""

    def __init__(self, name: str, path: str, recorder: SourceRecorder) -> None:
        super().__init__(name, path)
        self._recorder = recorder

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path)
        self._recorder.loaded(fullname, self.path, source)
        code: CodeType = self.source_to_code(source, self.path)
        return code
