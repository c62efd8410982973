"""The daemon's modules load no library that the daemon never uses."""

import subprocess
import sys

# web3 costs 0.5 s of CPU and lifts the recursion limit; the daemon speaks JSON-RPC through its own transport.
_UNUSED = ("web3", "requests", "eth_account", "py_ecc", "alembic", "apprise", "psycopg", "rich", "pygments")


def test_importing_the_daemon_loads_no_library_that_it_never_uses() -> None:
    program = (
        "import sys, watcher.cli.main, watcher.cli.run, watcher.daemon.daemon;"
        f"print([name for name in {_UNUSED} if name in sys.modules], sys.getrecursionlimit())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[] 1000"
