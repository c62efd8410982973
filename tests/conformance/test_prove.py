"""The proof over a real ledger: which event answers which task, also where a contract uses an index twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from tests.conformance.rig import ANSWER, CHAIN_ID, MANAGER, LedgerRig, header, make_response, make_task
from watcher.ledger import by_index, ingest, outcomes
from watcher.report.proof import Proof
from watcher.report.prove import Prover
from watcher.report.second_reading import read_again
from watcher.state import State
from watcher.task import Header, Task


@dataclass
class Contract:
    """What a contract of some shape says; `held` are the words of its views by index."""

    count: int | None = None
    first: int = 0
    lowest_index: int = 0
    proves_tasks: bool = False
    proves_answers: bool = False
    names_answers: bool = False
    hashes: Mapping[int, tuple[bytes | None, bytes | None]] = field(default_factory=dict)

    @property
    def counts_tasks(self) -> bool:
        return self.count is not None

    async def header(self, number: int) -> Header:
        return header(number)

    async def latest_task_num(self, at: Header) -> int:
        assert self.count is not None
        return self.count

    async def first_index(self, start_block: int, at: Header, lowest: by_index.Place | None) -> int:
        return self.first

    async def hashes_and_responses(self, indices: Sequence[int], at: Header) -> list[tuple[bytes | None, bytes | None]]:
        return [self.hashes.get(index, (None, None)) for index in indices]

    def is_task(self, word: bytes | None, task_hash: bytes) -> bool:
        return word == task_hash

    def response_hash(self, task_index: int, answer: bytes, log: bytes) -> bytes | None:
        response = next((response for response in self.responses if response.log == log), None)
        return response.response_hash if response is not None and response.message == answer else None

    def matches_log(self, task: Task) -> bool:
        return True

    responses: Sequence[Any] = ()


async def proved(ledger: LedgerRig, contract: Contract) -> Proof:
    return await Prover(cast("Any", contract), ledger.read, ledger.source, CHAIN_ID, MANAGER).prove()


async def test_prove_counts_both_tasks_when_an_index_is_used_twice(ledger: LedgerRig) -> None:
    """The second task of an index was neither counted nor compared with anything."""
    await ledger.bring(make_task(0), to=State.ACCEPTED)
    response = make_response(0, 105)
    (open_task,) = await ledger.in_state(State.ACCEPTED)
    await ledger.record(make_task(0, block=107, content="again"), answered=[response], upto=110)
    await ledger.write(outcomes.answered, [(open_task, response)], by_us=True)
    proof = await proved(ledger, Contract(responses=[response]))
    assert (proof.ok, proof.known, proof.answered_by_us, proof.open) == (True, 2, 1, [0])


async def test_prove_gives_each_task_its_own_event_when_both_are_answered(ledger: LedgerRig) -> None:
    first, second = make_response(0, 105), make_response(0, 108)
    for task, response in ((make_task(0), first), (make_task(0, block=107, content="again"), second)):
        await ledger.bring(task, to=State.ACCEPTED)
        (open_task,) = await ledger.in_state(State.ACCEPTED)
        await ledger.record(answered=[response])
        await ledger.write(outcomes.answered, [(open_task, response)], by_us=True)
    proof = await proved(ledger, Contract(responses=[first, second]))
    assert (proof.ok, proof.known, proof.answered_by_us) == (True, 2, 2)


async def test_prove_reports_a_task_settled_by_an_event_older_than_it(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0, block=107), to=State.ACCEPTED)
    old = make_response(0, 105)
    (open_task,) = await ledger.in_state(State.ACCEPTED)
    await ledger.record(answered=[old])
    await ledger.write(outcomes.answered, [(open_task, old)], by_us=True)
    proof = await proved(ledger, Contract(responses=[old]))
    assert (proof.ok, proof.mismatched, proof.answered_by_us) == (False, [0], 0)


async def test_prove_compares_one_task_only_when_the_contract_holds_hashes(ledger: LedgerRig) -> None:
    """The contract's word decides which of two logs at an index is meant; the other one is a forgery."""
    true, forged = make_task(0), make_task(0, content="forged")
    await ledger.record(true, forged)
    proof = await proved(ledger, Contract(count=1, proves_tasks=True, hashes={0: (true.task_hash, None)}))
    assert (proof.ok, proof.known, proof.open) == (True, 1, [0])


async def test_prove_names_a_task_that_the_ledger_lacks(ledger: LedgerRig) -> None:
    task = make_task(0)
    await ledger.record(task)
    hashes = {0: (task.task_hash, None), 1: (make_task(1).task_hash, None)}
    proof = await proved(ledger, Contract(count=2, proves_tasks=True, hashes=hashes))
    assert (proof.ok, proof.known, proof.missing) == (False, 1, [1])


async def test_answer_event_ignores_events_older_than_the_task(ledger: LedgerRig) -> None:
    """The same key may be asked again: an answer to the earlier task says nothing of the later one."""
    first, second = make_task(0), make_task(0, block=107, content="again")
    old, new = make_response(0, 105), make_response(0, 109, message=b"another")
    await ledger.record(first, second, answered=[old, new])
    for task, expected in ((first, old), (second, new)):
        response = await ledger.answer_event(0, None, 110, task.seen_at)
        assert response == expected
    assert await ledger.answer_event(0, None, 108, second.seen_at) is None


async def test_answer_event_leaves_the_answer_of_a_later_task_to_it(ledger: LedgerRig) -> None:
    first, second = make_task(0), make_task(0, block=107, content="again")
    response = make_response(0, 109)
    await ledger.record(first, second, answered=[response])
    assert await ledger.answer_event(0, None, 110, first.seen_at) is None
    assert await ledger.answer_event(0, None, 110, second.seen_at) == response


async def test_answer_event_takes_no_event_older_than_the_task_by_its_hash(ledger: LedgerRig) -> None:
    """Also where the contract names the event: a deployment may be asked the same thing twice."""
    task, old = make_task(0, block=107), make_response(0, 105)
    await ledger.record(task, answered=[old])
    assert await ledger.answer_event(0, old.response_hash, None, task.seen_at) is None


async def test_answer_event_orders_logs_within_one_block(ledger: LedgerRig) -> None:
    """An answer in the block of its task follows it; one that stands before it in that block answers another."""
    early, late = make_task(3, block=105), make_task(5, block=105)
    seen = make_response(3, 105)  # log 3 of block 105
    await ledger.record(early, late, answered=[seen])
    assert await ledger.answer_event(3, None, 110, early.seen_at) == seen
    assert await ledger.answer_event(3, None, 110, late.seen_at) is None
    assert seen.message == ANSWER


async def test_a_proof_fails_when_a_second_reader_reads_other_values(ledger: LedgerRig) -> None:
    tasks = [make_task(index) for index in range(3)]
    await ledger.write(ingest.record, ledger.source, tasks, [], header(110), 110)
    proof = await proved(ledger, Contract())
    assert (proof.ok, proof.read_twice) == (True, 0)
    readings = {0: True, 1: False, 2: None}
    await read_again(proof, ledger.read, ledger.source, lambda task: readings[task.task_index])
    assert (proof.ok, proof.read_twice, proof.read_differently) == (False, 2, [1])


async def test_twenty_logs_of_five_hundred_are_read_again(ledger: LedgerRig) -> None:
    tasks = [make_task(index) for index in range(600)]
    await ledger.write(ingest.record, ledger.source, tasks, [], header(110), 110)
    proof = await proved(ledger, Contract())
    await read_again(proof, ledger.read, ledger.source, lambda _task: True)
    assert (proof.read_twice, proof.ok) == (40, True)
