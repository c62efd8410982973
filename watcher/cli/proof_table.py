"""A proof as a table for people."""

from collections.abc import Sequence

from watcher.report.proof import Difference, Proof, Sender

_INDICES_LISTED = 20
_DIFFERENCES_SHOWN = 20
_SENDERS_SHOWN = 5


def print_proof(proof: Proof) -> None:
    """Print the proof: is it complete, what was answered and by whom, missed, not yet answered, and what differs."""
    from rich.table import Column, Table

    from watcher.cli.console import PlainConsole

    table = Table("", Column(overflow="fold"), show_header=False, title="proof")  # no hash is cut
    table.add_row("task manager", f"{proof.task_manager} on chain {proof.chain_id}")
    table.add_row("block", f"{proof.block_number} {proof.block_hash}")
    table.add_row("tasks on the chain", _range(proof.first_index, proof.latest_task_num))
    table.add_row("known", str(proof.known))
    table.add_row("complete", _completeness(proof))
    table.add_row("answered by us", f"{proof.answered_by_us}{_senders(proof.senders, by_us=True)}")
    table.add_row("answered otherwise", f"{_list(proof.answered_otherwise)}{_senders(proof.senders, by_us=False)}")
    table.add_row("missed", _list(proof.expired))
    table.add_row("not yet answered", _list(proof.open))
    table.add_row("mismatched", _list(proof.mismatched))
    table.add_row("compared with the logs", _comparison(proof))
    for difference in proof.differences[:_DIFFERENCES_SHOWN]:
        table.add_row(f"task {difference.task_index}: {difference.column}", _difference(difference))
    for unchecked in proof.unchecked:
        table.add_row("not checked", f"{unchecked.what} of {_tasks(unchecked.tasks)}: {unchecked.reason}")
    table.add_row("read by web3, too", _readings(proof))
    if proof.unproven:
        table.add_row("not shown by the contract", f"{', '.join(proof.unproven)}: only the logs show them")
    table.add_row("proven", _verdict(proof))
    PlainConsole().print(table)


def _range(first: int, count: int | None) -> str:
    if count is None:
        return "the contract does not count them"
    return f"{first} to {count - 1}" if count > first else "none"


def _completeness(proof: Proof) -> str:
    if proof.complete is None:
        return "not known: the contract does not count its tasks"
    return "yes: no index is missing" if proof.complete else f"NO, the ledger lacks {_list(proof.missing)}"


def _senders(senders: Sequence[Sender], *, by_us: bool) -> str:
    """Return who sent answers of one kind, with the number of each."""
    counts = [
        (sender.address or "an address that no node has shown", count)
        for sender in senders
        if (count := sender.answered_by_us if by_us else sender.answered_otherwise)
    ]
    if not counts:
        return ""
    named = ", ".join(f"{address} ({count})" for address, count in counts[:_SENDERS_SHOWN])
    return f"; sent by {named}" + (" …" if len(counts) > _SENDERS_SHOWN else "")


def _comparison(proof: Proof) -> str:
    differences = "no difference" if not proof.differences_found else f"{proof.differences_found} differences"
    more = proof.differences_found > _DIFFERENCES_SHOWN
    return f"{_tasks(proof.compared)}, {differences}" + (f"; the first {_DIFFERENCES_SHOWN} are below" if more else "")


def _difference(difference: Difference) -> str:
    in_ledger, on_chain = ("nothing" if value is None else value for value in (difference.ledger, difference.chain))
    return f"the ledger has {in_ledger}, the chain {on_chain}"


def _readings(proof: Proof) -> str:
    if not proof.read_twice:
        return "none: web3 reads no log of this event" if proof.known else "none"
    if proof.read_differently:
        return f"other values in {_list(proof.read_differently)}"
    return f"{proof.read_twice} logs, with the same values"


def _verdict(proof: Proof) -> str:
    """Return whether the ledger is proven, beside what that does not mean: that every task is answered."""
    remaining = [
        f"{_tasks(count)} {what}"
        for count, what in ((proof.missed, "missed"), (proof.not_yet_answered, "not yet answered"))
        if count
    ]
    beside = f" ({', '.join(remaining)})" if remaining else ""
    return f"yes: the ledger is as the chain shows it{beside}" if proof.ok else f"NO{beside}"


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"


def _list(indices: Sequence[int]) -> str:
    if not indices:
        return "none"
    listed = ", ".join(map(str, indices[:_INDICES_LISTED]))
    return f"{len(indices)}: {listed}" + (" …" if len(indices) > _INDICES_LISTED else "")
