"""`process_*` of this process, also where /proc shows nothing but processes.

The shipped unit sets ProcSubset=pid: there is no /proc/stat then, from which the client library reads the time of boot,
and without which it exports nothing.
"""

import time

from prometheus_client import CollectorRegistry, ProcessCollector


class OwnProcess(ProcessCollector):
    """The library's collector, with the time of boot from the clocks."""

    def __init__(self, registry: CollectorRegistry, proc: str = "/proc") -> None:
        super().__init__(proc=proc, registry=registry)

    def _boot_time(self) -> float:
        """Return when the machine was booted, in seconds since 1970."""
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
