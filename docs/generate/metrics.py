"""`docs/metrics.md`, made from the metrics themselves."""

from collections.abc import Iterable

from watcher.health.conditions import (
    CONDITION_KEYS,
)
from watcher.health.metrics import API_OUTCOMES, HOOK_OUTCOMES, Metrics
from watcher.health.readings import (
    SERVICES,
)
from watcher.state import State

_INTRODUCTION = """\
# Metrics

<!-- Written by `make docs`; change watcher/health/*metrics.py instead. -->

`GET /metrics` on `[http] listen` serves them, as text for Prometheus or as OpenMetrics, whichever is asked for. Names
that begin with `eigen_` are those of the EigenLayer AVS metrics specification; all others are ours and begin with
`avs_watcher_`. Besides these there is `process_*`, as in every Prometheus client. Alert rules and a dashboard that use
them are in `monitoring/`.

A label never holds anything of a task. An endpoint is shown by scheme, host and port, without path, query or user.
"""


def metrics_page() -> str:
    """The page's text."""
    labels = {
        "avs_name": "`[operator] avs_name`",
        "method": "the JSON-RPC methods the watcher uses",
        "client_version": "what the node says it is; `unknown` until it was asked, `other` after eight different ones",
        "service": _listed(SERVICES),
        "key": _listed(CONDITION_KEYS),
        "state": _listed(State),
        "stage": _listed(("watch", "admit", "respond", "submit", "confirm", "recheck")),
        "endpoint": "the nodes of `[chain] rpc_urls`",
        "outcome": f"API: {_listed(API_OUTCOMES)}; hook: {_listed(HOOK_OUTCOMES)}; nodes: `ok`, `failed`",
        "version": "of the watcher",
        "python": "of the interpreter",
        "day": "a day in UTC, such as 2026-11-30",
        "root": "`0x` and 64 digits; one series at a time",
        "head_hash": "likewise: the hash of the last entry that the root covers",
    }
    described = Metrics().described
    rows = [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.meaning} |"
        for one in described
    ]
    used = {label for one in described for label in one.labels}
    meanings = [f"| `{label}` | {labels[label]} |" for label in labels if label in used]
    return "\n".join(
        [
            _INTRODUCTION,
            "| metric | kind | labels | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
            "## Labels",
            "",
            "| label | values |",
            "|---|---|",
            *meanings,
            "",
        ]
    )


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)
