"""`watcher prove` beside a node that is slow for a while."""

import pytest

from tests.kit.clocks import SetClock
from watcher.cli.prove import retried
from watcher.errors import RetryElsewhere, TryLater
from watcher.report.proof import Proof

PROOF = Proof(31337, "0x11", 7, "0x22", 3, 0)


class Prover:
    """Raises the errors in turn, then proves."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.calls = 0

    async def prove(self) -> Proof:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)
        return PROOF


async def test_proof_begins_again_when_a_node_times_out() -> None:
    prover = Prover(RetryElsewhere("no reply within 5 s"), RetryElsewhere("no reply within 5 s"))
    assert await retried(prover.prove, SetClock()) is PROOF
    assert prover.calls == 3


async def test_proof_ends_when_no_node_replies_three_times() -> None:
    prover = Prover(*(RetryElsewhere(f"failure {number}") for number in (1, 2, 3, 4)))
    clock = SetClock()
    began_s = clock.monotonic_s()
    with pytest.raises(RetryElsewhere, match="failure 3"):
        await retried(prover.prove, clock)
    assert 1 < clock.monotonic_s() - began_s < 10


async def test_proof_is_not_repeated_when_the_ledger_is_behind() -> None:
    prover = Prover(TryLater("the ledger has read no block yet"))
    with pytest.raises(TryLater):
        await retried(prover.prove, SetClock())
    assert prover.calls == 1
