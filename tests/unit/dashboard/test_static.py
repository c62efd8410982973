"""The files that pages load: complete, unchanged from their packages, and shipped."""

import hashlib
from pathlib import Path

import pytest

from watcher import dashboard
from watcher.dashboard.static import FILES, address_of, static_file

STATIC = Path(str(dashboard.__file__)).parent / "static"


def test_each_file_is_served_and_no_other() -> None:
    shipped = {str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.suffix in (".js", ".css", ".svg")}
    assert shipped == set(FILES)
    for name in FILES:
        assert static_file(name).body
        assert address_of(name).startswith(f"/static/{name}?")
    for name in ("../routes.py", "vendor/README.md", "vendor/SHA256SUMS", "", "/etc/passwd"):
        with pytest.raises(KeyError):
            static_file(name)


def test_files_of_others_are_unchanged_and_have_their_licences() -> None:
    lines = (STATIC / "vendor" / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split() for line in lines)}
    files = {path.name for path in (STATIC / "vendor").iterdir()} - {"SHA256SUMS", "README.md"}
    assert sums.keys() == files
    for name, digest in sums.items():
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == digest
    assert {"htmx.LICENSE", "uplot.LICENSE"} <= files


def test_nothing_is_loaded_from_elsewhere() -> None:
    own = [STATIC / name for name in FILES if not name.startswith("vendor/")]
    templates = list((STATIC.parent / "templates").glob("*.html"))
    assert len(templates) >= 8
    for path in (*own, *templates):
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path.name
        assert "https://" not in text, path.name
