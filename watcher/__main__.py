"""`watcher` and `python -m watcher`."""

import os
import sys

_BUG = 70
# Settings of libraries of ours. Meant for another program, they change where metrics and logs go or stop the start, and
# SSLKEYLOGFILE writes down the keys of the connections that carry the password.
_OF_LIBRARIES = ("ECC_BACKEND_CLASS", "ETH_HASH_BACKEND", "LOGURU_", "PROMETHEUS_", "SSLKEYLOGFILE")


def main() -> None:
    """Run the command line and exit with its code."""
    for name in [name for name in os.environ if name.upper().startswith(_OF_LIBRARIES)]:
        del os.environ[name]
    try:
        from watcher.cli.main import run
    except Exception as trouble:  # noqa: BLE001 - Python's own exit code for it is 1, after which no service restarts us
        print(f"watcher: the program is not whole ({type(trouble).__name__}: {trouble})", file=sys.stderr)
        sys.exit(_BUG)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
