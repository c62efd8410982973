"""The findings of a check, line by line.

Invariant: a red line names the remedy, and carries the exit code that fits it.
"""

from dataclasses import dataclass, field
from typing import Literal

from watcher.errors import FixConfiguration, RetryElsewhere, WatcherError

Verdict = Literal["ok", "warning", "wrong"]

UNAVAILABLE = RetryElsewhere.exit_code
MISCONFIGURED = FixConfiguration.exit_code


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `what` is the part, `check` the aspect of it; `exit_code` is 0 unless the verdict is "wrong"."""

    what: str
    check: str
    verdict: Verdict
    message: str
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Notes:
    """The findings about one part, in the order they were made."""

    what: str
    findings: list[Finding] = field(default_factory=list)

    def ok(self, check: str, message: str) -> None:
        """Add a green line: the aspect is in order."""
        self.findings.append(Finding(self.what, check, "ok", message))

    def warn(self, check: str, message: str) -> None:
        """Add a yellow line: the daemon works, and a person should know."""
        self.findings.append(Finding(self.what, check, "warning", message))

    def wrong(self, check: str, message: str, exit_code: int = MISCONFIGURED) -> None:
        """Add a red line: the daemon does not work. The message names the remedy."""
        self.findings.append(Finding(self.what, check, "wrong", message, exit_code))

    def failed(self, check: str, error: WatcherError, advice: str) -> None:
        """Add a red line from `error`, followed by `advice`."""
        self.wrong(check, f"{error}; {advice}", error.exit_code)
