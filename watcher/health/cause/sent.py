"""Why a task that was sent has no end yet: the POST, the chain's verdict, finality. Pure."""

from collections.abc import Iterator

from watcher.health.cause.evidence import Evidence, advice, first, held_up, off_chain, past_deadline
from watcher.health.conditions import (
    CONVENTION,
    FINALITY_BEHIND,
    KINDS,
    NODE_BEHIND,
    RPC,
    UNSHOWN,
    WATCH,
)
from watcher.ledger.stats import UNSHOWN_LIMIT
from watcher.report.story import Cause
from watcher.state import State
from watcher.task import Absent


def sending(evidence: Evidence) -> Cause:
    """Return why a task is `sending`."""
    return first(_sending(evidence))


def _sending(evidence: Evidence) -> Iterator[Cause | None]:
    yield held_up(evidence, "waits for the outcome of its POST", WATCH)
    if evidence.is_leased:
        yield Cause(
            "is on its way: the POST has begun, and its reply is awaited", advice="Nothing, while the request lasts."
        )
    yield Cause(
        "waits for the chain's verdict: the POST was cut off, so that nobody knows whether it arrived",
        advice="Nothing: the next start asks the chain before anything is sent again.",
    )


def undecided(evidence: Evidence) -> Cause:
    """Return why a task is `accepted` or `unknown`."""
    return first(_undecided(evidence))


def _undecided(evidence: Evidence) -> Iterator[Cause | None]:
    row = evidence.row
    phrase = "waits for the chain to show the answer"
    yield off_chain(evidence)
    yield held_up(evidence, phrase, RPC, NODE_BEHIND, CONVENTION)
    yield past_deadline(evidence)
    if row.absent == Absent.EVENT:
        yield Cause(
            "waits for the event of its response: the contract holds one, and no log shows by whom",
            next_block=evidence.due_block,
            advice="The blocks are read again. If it lasts, a node hides logs: `watcher check`, or another node.",
        )
    yield held_up(evidence, phrase, UNSHOWN)
    late = evidence.source.late
    if evidence.daemon.missing and late.count >= UNSHOWN_LIMIT:
        reason = f"{phrase}: {KINDS[UNSHOWN].title}: {late.count} in a row ({late.why})"
        yield Cause(reason, None, None, evidence.due_block, UNSHOWN, advice(UNSHOWN, row.task_index))
    yield held_up(evidence, phrase, WATCH)
    begin = "the API accepted it" if row.state == State.ACCEPTED else _unknown(evidence)
    claim = f" and names transaction 0x{row.tx_hash.hex()}" if row.tx_hash is not None else ""
    yield Cause(
        f"{phrase}: {begin}{claim}",
        next_block=evidence.due_block,
        advice="Nothing: if the chain shows nothing by then, it is sent again.",
    )


def _unknown(evidence: Evidence) -> str:
    reason = evidence.error or "the last POST may have arrived"
    return f"nobody knows whether the last POST arrived ({reason})"


def responded(evidence: Evidence) -> Cause:
    """Return why a task is `responded` or `responded_other`."""
    return first(_responded(evidence))


def _responded(evidence: Evidence) -> Iterator[Cause | None]:
    row, final_block = evidence.row, evidence.cursor.final_block
    phrase = "waits for finality"
    yield off_chain(evidence)
    yield held_up(evidence, phrase, RPC, FINALITY_BEHIND, NODE_BEHIND)
    whose = "our answer" if row.state == State.RESPONDED else "another operator's answer"
    where = f"{whose} is in block {row.responded_block}"
    if final_block < row.responded_block:
        yield Cause(
            f"{phrase}: {where}, and the final block is {max(0, final_block)}",
            next_block=row.responded_block,
            advice="Nothing: it goes on with the chain.",
        )
    yield held_up(evidence, phrase, WATCH)
    reason = f" ({evidence.error})" if evidence.error and row.state == State.RESPONDED else ""
    yield Cause(f"{phrase}: {where}, which is final; it is read once more{reason}", next_block=evidence.due_block)
