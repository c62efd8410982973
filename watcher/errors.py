"""Every error of the program, named for the action it asks for.

Imports nothing of ours. Invariant: an error that reaches a person says what to do next. An expected result (refused,
skipped, not yet) is a value, never one of these.
"""

from collections.abc import Sequence


class WatcherError(Exception):
    """Root of all errors raised on purpose. `exit_code` follows sysexits.h.

    `traceback` is the traceback of the hook's own code, of several safe lines; "": none, or nobody asked for it.
    """

    exit_code = 70
    traceback = ""


class FixUsage(WatcherError):
    """The command line asks for something impossible."""

    exit_code = 64


class FixConfiguration(WatcherError):
    """A person must change the configuration; a restart does not help.

    `problems` holds one line per problem, so that all of them are shown at once.
    """

    exit_code = 78

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: Sequence[str] = problems


class RetryElsewhere(WatcherError):
    """No usable reply of a node: ask another one, or the same one later."""

    exit_code = 69


class NarrowRange(RetryElsewhere):
    """The node did not serve this span of blocks; a shorter one may work.

    Raised for any refusal of a span longer than one block, because nodes word their limits in dozens of ways.
    """


class StaleNode(RetryElsewhere):
    """The node has not reached the height of the question, so its reply is no evidence."""


class TryLater(WatcherError):
    """An outside resource is busy: another daemon holds the ledger, or the database is locked, full or gone."""

    exit_code = 75


class Halt(WatcherError):
    """The chain broke a promise: a block called final has changed. Nothing is sent until a person has looked."""

    exit_code = 1


class Edited(WatcherError):
    """The ledger holds values that this program never writes: other hands edited it, or the file is damaged."""

    exit_code = 1


class Quarantine(WatcherError):
    """Outside data that the contract cannot have emitted: set it aside, never stop the cursor for it."""


class AttemptFailed(WatcherError):
    """The hook gave no answer. Costs this task one attempt, and other tasks nothing."""


class IllegalMove(WatcherError):
    """A bug of ours: a transition that the state machine does not have."""


class LostLease(WatcherError):
    """Another worker has taken the task since; drop the result."""


class NotLeading(LostLease):
    """Another replica leads: drop the result, and leave the chain to it."""
