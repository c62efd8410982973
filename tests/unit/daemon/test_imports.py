"""The daemon's modules load no library that a start does not use."""

import subprocess
import sys

# web3 costs 0.5 s of CPU and lifts the recursion limit; the daemon speaks JSON-RPC through its own transport.
_NEVER_USED = ("web3", "requests", "eth_account", "py_ecc", "alembic", "apprise", "psycopg", "rich", "pygments")
# Loaded when the first page, report or odd piece of data needs it.
_LATER = (
    "jinja2",
    "eth_abi",
    "eth_utils",
    "cytoolz",
    "certifi",
    "watcher.report.prove",
    "watcher.report.service_level",
)


def test_importing_the_daemon_loads_nothing_that_a_start_does_not_use() -> None:
    program = (
        "import sys, watcher.cli.main as main, watcher.daemon.daemon; main.load_command(['run']);"
        f"print([name for name in {_NEVER_USED + _LATER} if name in sys.modules], sys.getrecursionlimit())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[] 1000"
