"""Every error of the program, named for what must be done about it.

Imports nothing of ours. Invariant: an error that reaches a person carries words that say what to do next, and an
expected result (refused, skipped, not yet) is a value, never one of these.
"""

from collections.abc import Sequence


class WatcherError(Exception):
    """Root of all errors raised on purpose. `exit_code` follows sysexits.h."""

    exit_code = 70


class FixUsage(WatcherError):
    """The command line asks for something that cannot be done."""

    exit_code = 64


class FixConfiguration(WatcherError):
    """A person must change the configuration; restarting will not help.

    `problems` holds one line per problem, so that all of them are shown at once.
    """

    exit_code = 78

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: Sequence[str] = problems


class RetryElsewhere(WatcherError):
    """An endpoint gave no usable answer: ask another one, or the same one later."""

    exit_code = 69


class NarrowRange(RetryElsewhere):
    """The node did not serve this span of blocks; a shorter one may work.

    Raised for any refusal of a span longer than one block, because nodes word their limits in dozens of ways.
    """


class StaleNode(RetryElsewhere):
    """The node has not reached the height the question is about, so its answer is no evidence."""


class TryLater(WatcherError):
    """Something outside is busy (another daemon holds the ledger, a lock is taken)."""

    exit_code = 75


class Halt(WatcherError):
    """The chain broke a promise we rely on: a block called final has changed. No more answers until a person looks."""

    exit_code = 1


class Quarantine(WatcherError):
    """Outside data that cannot be what the contract emitted; set it aside, never let it stop the cursor."""


class AttemptFailed(WatcherError):
    """The hook gave no answer. Costs this task one attempt and no other task anything."""


class IllegalMove(WatcherError):
    """A bug of ours: a task was moved along an edge the state machine does not have."""


class LostLease(WatcherError):
    """Another worker has taken this piece of work since; drop the result."""
