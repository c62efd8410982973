"""What the check says, line by line.

Invariant: a red line says what to do, and carries the exit code that fits it.
"""

from dataclasses import dataclass, field
from typing import Literal

from watcher.errors import FixConfiguration, RetryElsewhere, WatcherError

Verdict = Literal["ok", "warning", "wrong"]

UNAVAILABLE = RetryElsewhere.exit_code
MEND = FixConfiguration.exit_code


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `what` is the part, `check` what of it was looked at; `exit_code` is 0 unless it is wrong."""

    what: str
    check: str
    verdict: Verdict
    words: str
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Notes:
    """The lines of one part, in the order they were found."""

    what: str
    findings: list[Finding] = field(default_factory=list)

    def ok(self, check: str, words: str) -> None:
        """Green: as it should be."""
        self.findings.append(Finding(self.what, check, "ok", words))

    def warn(self, check: str, words: str) -> None:
        """Yellow: it works, and a person should know."""
        self.findings.append(Finding(self.what, check, "warning", words))

    def wrong(self, check: str, words: str, exit_code: int = MEND) -> None:
        """Red: it does not work. The words say what to do."""
        self.findings.append(Finding(self.what, check, "wrong", words, exit_code))

    def failed(self, check: str, error: WatcherError, advice: str) -> None:
        """Red, in the words of an error a person would meet, and what to do about it."""
        self.wrong(check, f"{error}; {advice}", error.exit_code)

    @property
    def has_wrong(self) -> bool:
        return any(one.verdict == "wrong" for one in self.findings)
