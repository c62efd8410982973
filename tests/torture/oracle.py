"""The oracle: what must hold after the storm. Each check returns what contradicts it, with the evidence."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping

from tests.torture.coverage import missing
from tests.torture.evidence import Evidence, Row, ever_on_chain
from watcher.state import ENDED, LEGAL, State

# A request may have been on its way when the chain changed: it was right when it was sent.
FLIGHT_MS = 5_000
# Replicas that lag show an old head; the contract refuses what comes too late, whatever we believed.
LAG_BLOCKS = 8

Check = Callable[[Evidence], Iterator[str]]


def lost(e: Evidence) -> Iterator[str]:
    """Every task of the chain is in the ledger, as canonical; and nothing else is."""
    known = {(row.index, row.task_hash) for row in e.rows if row.canonical}
    on_chain = {(task.index, task.task_hash) for task in e.tasks}
    for task in e.tasks:
        if (task.index, task.task_hash) not in known:
            yield f"task {task.index} of block {task.created_block} is not in the ledger"
    for row in e.rows:
        if row.canonical and row.state != State.QUARANTINED and (row.index, row.task_hash) not in on_chain:
            yield f"row {row.id}: task {row.index} is called canonical ({row.state}) and is not on the chain"


def not_ended(e: Evidence) -> Iterator[str]:
    """Every task the ledger knows has come to an end."""
    for row in e.rows:
        if row.state not in ENDED:
            yield f"row {row.id}: task {row.index} is {row.state}, canonical {row.canonical}, {row.posts} posts"


def answered_twice(e: Evidence) -> Iterator[str]:
    """At most one response on the chain for an index, and never two different answers sent for one task."""
    for index, count in Counter(index for index, _ in e.responses).items():
        if count > 1:
            yield f"task {index} has {count} responses on the chain"
    sent: defaultdict[tuple[int, int, str], set[str]] = defaultdict(set)
    for request in e.requests:
        sent[request.key].add(request.answer)
    for key, answers in sent.items():
        if len(answers) > 1:
            yield f"task {key[0]} of block {key[1]}: {sorted(answers)} were sent"


def false_success(e: Evidence) -> Iterator[str]:
    """`final` exactly where the chain shows our bytes, `final_other` exactly where it shows others."""
    responses = dict(e.responses)
    rows = _rows_of(e)
    for row in e.rows:
        answer = responses.get(row.index)
        if row.state == State.FINAL and not (row.canonical and answer is not None and answer == row.response):
            yield f"row {row.id}: task {row.index} is final with {row.response}, the chain shows {answer}"
        if row.state == State.FINAL_OTHER and (not row.canonical or answer is None or answer == row.response):
            yield f"row {row.id}: task {row.index} is final_other with {row.response}, the chain shows {answer}"
    for task in e.tasks:
        mine, answer = rows.get((task.index, task.task_hash)), responses.get(task.index)
        if mine is None or answer is None:
            continue
        expected = State.FINAL if answer == mine.response else State.FINAL_OTHER
        if mine.state != expected:
            yield f"row {mine.id}: task {task.index} is {mine.state}, the chain shows {answer}: it is {expected}"


def false_failure(e: Evidence) -> Iterator[str]:
    """Nothing on the chain is called gone, and nothing answered is called unanswered."""
    responses = dict(e.responses)
    rows = _rows_of(e)
    for task in e.tasks:
        row = rows.get((task.index, task.task_hash))
        if row is None:
            continue
        if row.state in (State.ORPHANED, State.QUARANTINED):
            yield f"row {row.id}: task {task.index} is {row.state} and stands on the chain"
        if row.state in (State.EXPIRED, State.FAILED, State.SKIPPED) and task.index in responses:
            yield f"row {row.id}: task {task.index} is {row.state}, the chain shows {responses[task.index]}"


def wrong_task(e: Evidence) -> Iterator[str]:
    """Each request names a task that was on the chain when it was sent, with an answer the hook gave for it."""
    ever = ever_on_chain(e)
    for request in e.requests:
        created = ever.get(request.key)
        if created is None:
            yield f"task {request.index} of block {request.created_block} was sent and never was on the chain"
            continue
        task, died_ms = created
        if died_ms is not None and request.at_ms > died_ms + FLIGHT_MS + _paused_ms(e, died_ms):
            late_ms = request.at_ms - died_ms
            yield f"task {request.index} of block {request.created_block} was sent {late_ms} ms after its end"
        if request.answer not in e.hook_answers.get((task.index, task.task_hash), ()):
            yield f"task {request.index} of block {request.created_block}: the hook never said {request.answer}"


def late(e: Evidence) -> Iterator[str]:
    """Nothing is sent when a head past the deadline has been there for a while."""
    heads = iter(e.past.heads)
    at_ms, head = next(heads, (0, 0))
    past: list[tuple[int, int]] = []
    for request in sorted(e.requests, key=lambda request: request.at_ms):
        while at_ms <= request.at_ms - FLIGHT_MS:
            past.append((at_ms, head))
            newer = next(heads, None)
            if newer is None:
                break
            at_ms, head = newer
        deadline = request.created_block + e.window_blocks
        if past and past[-1][1] > deadline + LAG_BLOCKS and not _paused_ms(e, request.at_ms - 2 * FLIGHT_MS):
            yield f"task {request.index} was sent at head {past[-1][1]}, its deadline was {deadline}"


def unrecorded(e: Evidence) -> Iterator[str]:
    """No request without an attempt that was written down before, and no move that the law does not know."""
    ever = ever_on_chain(e)
    rows = {(row.index, row.task_hash): row for row in e.rows}
    for key, count in Counter(request.key for request in e.requests).items():
        row = rows.get((key[0], ever[key][0].task_hash)) if key in ever else None
        posts = row.posts if row else 0
        if posts < count:
            yield f"task {key[0]} of block {key[1]} was sent {count} times, written down {posts} times"
    for before, after in e.transitions:
        if before is not None and after not in LEGAL[State(before)]:
            yield f"there was a move from {before} to {after}"


def miscounted(e: Evidence) -> Iterator[str]:
    """The command line, the proof and the chain count alike."""
    stored, listed = Counter(row.state for row in e.rows), Counter(task["state"] for task in e.listed)
    if stored != listed:
        yield f"tasks list: {dict(listed)}; the ledger: {dict(stored)}"
    responses, rows = dict(e.responses), _rows_of(e)
    rows_by_index = {task.index: rows.get((task.index, task.task_hash)) for task in e.tasks}
    ours = sum(
        index in responses and row is not None and row.response == responses[index]
        for index, row in rows_by_index.items()
    )
    expected = {"latest_task_num": len(e.tasks), "known": len(e.tasks), "answered_by_us": ours, "ok": True}
    proof = {name: e.proof.get(name) for name in expected}
    if proof != expected or e.proof_code != 0:
        more = {name: e.proof.get(name) for name in ("missing", "mismatched")}
        yield f"prove (exit code {e.proof_code}): {proof} {more}; the chain: {expected}"


def leaked(e: Evidence) -> Iterator[str]:
    """The password and the key in the node's URL stand in nothing that the program wrote."""
    yield from e.leaks


def died(e: Evidence) -> Iterator[str]:
    """The daemon ended only when it was told to."""
    yield from e.past.deaths


CHECKS: Mapping[str, Check] = {
    "lost": lost,
    "not ended": not_ended,
    "answered twice": answered_twice,
    "false success": false_success,
    "false failure": false_failure,
    "wrong task": wrong_task,
    "late": late,
    "unrecorded": unrecorded,
    "miscounted": miscounted,
    "leaked": leaked,
    "died": died,
}


def violations_of(evidence: Evidence) -> dict[str, list[str]]:
    """What each check found. An empty list is the promise kept."""
    return {name: list(check(evidence)) for name, check in CHECKS.items()}


def incomplete(evidence: Evidence) -> list[str]:
    """What did not happen in this run and should have: it then proves less than it says."""
    return missing(evidence)


def _rows_of(e: Evidence) -> dict[tuple[int, str], Row]:
    return {(row.index, row.task_hash): row for row in e.rows if row.canonical}


def _paused_ms(e: Evidence, since_ms: int) -> int:
    """How long the daemon was stopped after a moment: what it was about to send then is sent later."""
    return sum(end - max(begin, since_ms) for begin, end in e.past.pauses if end > since_ms)
