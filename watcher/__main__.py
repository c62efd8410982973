"""`watcher` and `python -m watcher`."""

import os
import sys

from watcher.loading import loading

_BUG = 70
# Settings of our libraries, which an environment may hold for another program: they redirect metrics and logs or stop
# the start, and SSLKEYLOGFILE stores the keys of the connections that carry the password.
_LIBRARY_PREFIXES = ("ECC_BACKEND_CLASS", "ETH_HASH_BACKEND", "LOGURU_", "PROMETHEUS_", "SSLKEYLOGFILE")


def main() -> None:
    """Run the command line and exit with its code."""
    for name in [name for name in os.environ if name.upper().startswith(_LIBRARY_PREFIXES)]:
        del os.environ[name]
    try:
        with loading():
            from watcher.cli.main import load_command, run

            load_command(sys.argv[1:])
    except Exception as error:  # noqa: BLE001 - Python's own exit code would be 1, after which no service restarts us
        reason = f"{type(error).__name__}: {error}"
        print(f"watcher: the installation is broken ({reason}); install the package again", file=sys.stderr)
        sys.exit(_BUG)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
