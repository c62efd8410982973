"""`watcher` and `python -m watcher`."""

import sys

_BUG = 70


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from watcher.app.cli import run
    except Exception as trouble:  # noqa: BLE001 - Python's own exit code for it is 1, after which no service restarts us
        print(f"watcher: the program is not whole ({type(trouble).__name__}: {trouble})", file=sys.stderr)
        sys.exit(_BUG)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
