"""The configuration of a watcher under measure, as the tables of its file."""

from dataclasses import dataclass

from bench.program import hook
from bench.server import USERNAME
from bench.task_chain import CHAIN_ID, CONFIRMATIONS, TaskChain

# The local API sends no transactions: without patience, each answer would be sent again after a few blocks.
_PATIENCE_BLOCKS = 10_000
LEDGER_FILE = "watcher.db"
Tables = dict[str, dict[str, object]]


@dataclass(frozen=True, slots=True)
class Choice:
    """What differs between sides.

    Attributes:
        api_url: the hosted API; "": the daemon only observes.
        concurrency: requests at a time; 0: the default.
        confirmations: blocks above a task's block before it is answered.
        span_blocks: the longest range asked for at once; 0: the default.
        ledger_url: the ledger; "": a SQLite file in the run's folder.
        workers: processes of the hook.
        hook: its module in bench/hooks.
    """

    api_url: str = ""
    concurrency: int = 0
    confirmations: int = CONFIRMATIONS
    span_blocks: int = 0
    ledger_url: str = ""
    workers: int = 2
    hook: str = "trivial"


def tables(task_chain: TaskChain, choice: Choice) -> Tables:
    """Return the configuration of a daemon that watches a chain over HTTP and WebSocket."""
    chain: dict[str, object] = {
        "rpc_urls": [task_chain.rpc_url, task_chain.ws_url],
        "chain_id": CHAIN_ID,
        "confirmations": choice.confirmations,
    }
    operator: dict[str, object] = {"api": "none"}
    if choice.span_blocks:
        chain["max_span_blocks"] = choice.span_blocks
    if choice.api_url:
        operator = {
            "api": "proxy",
            "url": choice.api_url,
            "username": USERNAME,
            "resolve_after_blocks": _PATIENCE_BLOCKS,
        }
    if choice.api_url and choice.concurrency:
        operator["concurrency"] = choice.concurrency
    return {
        "chain": chain,
        "task_manager": {"address": task_chain.manager.address, "start_block": task_chain.start_block},
        "hook": hook(choice.workers, choice.hook),
        "operator": operator,
        "ledger": {"url": choice.ledger_url or f"sqlite:///{LEDGER_FILE}"},
        "http": {"listen": "127.0.0.1:0"},
    }
