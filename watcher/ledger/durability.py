"""The verbs whose commits a power cut may take back, because the chain or the hook gives the same work again.

A deferred commit reaches the disk with the next durable one, or within a second (`writer.SYNC_WITHIN_S`). SQLite
appends all commits to one log and syncs it as a whole (https://www.sqlite.org/pragma.html#pragma_synchronous), so no
durable commit is ever without those before it. In front of a POST this leaves one sync, that of its attempt, where each
step on the way there used to wait for one. A crash of the daemon alone takes nothing back.

Invariant: what the outside world has seen is durable: an attempt before its POST, with the task and the answer it
sends, and every outcome.
"""

from collections.abc import Callable
from typing import Any

from watcher.ledger import backfill, claims, finality, hook_results, ingest, outcomes, shadow

DEFERRED: frozenset[Callable[..., Any]] = frozenset(
    {
        # The cursor goes back with the tasks of its blocks, and the blocks are read again.
        ingest.record,
        # The final block, too: the nodes show it again.
        finality.finalise,
        # The contract is asked again.
        outcomes.admitted,
        # No lease outlives the daemon.
        claims.claim,
        # A node is asked again.
        backfill.record_times,
        backfill.record_senders,
        # The hook runs again. No attempt has sent the first answer: its commit would have made the answer durable.
        hook_results.keep_answers,
        hook_results.keep_old_answers,
        # The shadow runs again.
        shadow.record,
    }
)
