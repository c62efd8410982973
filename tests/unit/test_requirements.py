"""requirements.txt is what the lock says, so that a production install and the tests use the same packages."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXPORT = ("export", "--quiet", "--frozen", "--offline", "--no-dev", "--no-emit-project", "--no-header")


def test_requirements_are_exported_from_the_lock() -> None:
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), *EXPORT, "--extra", "postgres"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (ROOT / "requirements.txt").read_text() == done.stdout, "run: make requirements"


def test_every_direct_dependency_has_an_upper_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    # certifi's versions are dates: a newer one only knows newer certificate authorities.
    unbounded = [line for line in (*project["dependencies"], *extras) if "<" not in line and line != "certifi>=2025"]
    assert unbounded == []
