"""The two ways in which a measure yields nothing."""


class Failed(Exception):
    """A run ended without a result, or with a wrong one; the message says why."""


class Unavailable(Exception):
    """Something cannot be had on this machine; the message says what and why. Its measure or side is skipped."""
