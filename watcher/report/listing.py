"""Tasks as people and machines read them. The names of the fields are an interface: they are only ever added to."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.engine import Row

# The end of the year 9999; what lasts longer has no end.
_LAST_S = 253_402_300_799


def task_fields(row: Row[Any]) -> dict[str, Any]:
    """One task as `tasks list --json` prints it. Bytes are lower-case 0x hex, times are ISO 8601 in UTC."""
    return {
        "chain_id": row.chain_id,
        "task_manager": hexed(row.task_manager),
        "task_index": row.task_index,
        "task_hash": hexed(row.task_hash),
        "state": row.state,
        "task_created_block": row.created_block,
        "deadline_block": row.deadline_block,
        "deadline_at": second_of(row.deadline_s),
        "block_number": row.block_number,
        "block_hash": hexed(row.block_hash),
        "canonical": row.canonical,
        "created_tx_hash": hexed(row.created_tx_hash),
        "message": hexed(row.message),
        "quorum_numbers": hexed(row.quorum_numbers),
        "quorum_threshold": row.quorum_threshold,
        "response": hexed(row.response),
        "hook_version": row.hook_version,
        "sig_hash": hexed(row.sig_hash),
        "tx_hash": hexed(row.tx_hash),
        "responded_tx_hash": hexed(row.responded_tx_hash),
        "responded_block": row.responded_block,
        "response_hash": hexed(row.response_hash),
        "attempts": row.attempts,
        "hook_attempts": row.hook_attempts,
        "error": row.error,
        "seen_at": time_of(row.seen_at_ms),
        "updated_at": time_of(row.updated_at_ms),
    }


def story_fields(moves: Sequence[Row[Any]], tries: Sequence[Row[Any]]) -> dict[str, Any]:
    """The journal and the attempts of a task, as `tasks show --json` adds them."""
    return {
        "journal": [
            {
                "at": time_of(row.at_ms),
                "from": row.from_state,
                "to": row.to_state,
                "why": row.why,
                "attempt_id": row.attempt_id,
            }
            for row in moves
        ],
        "attempt_log": [
            {
                "id": row.id,
                "kind": row.kind,
                "number": row.number,
                "api": row.api,
                "request_digest": hexed(row.request_digest),
                "began_at": time_of(row.began_at_ms),
                "duration_ms": row.duration_ms,
                "outcome": row.outcome,
                "http_status": row.http_status,
                "code": row.code,
                "words": row.words,
                "answer": hexed(row.answer),
                "tx_hash": hexed(row.tx_hash),
                "sig_hash": hexed(row.sig_hash),
            }
            for row in tries
        ],
    }


def hexed(data: bytes | None) -> str | None:
    """Bytes as lower-case 0x hex."""
    return None if data is None else "0x" + data.hex()


def second_of(s: int | None) -> str | None:
    """Seconds since 1970, as a contract has them, as ISO 8601 in UTC; None for what no calendar has."""
    return None if s is None or s > _LAST_S else time_of(s * 1000)


def time_of(ms: int | None) -> str | None:
    """Milliseconds since 1970 as ISO 8601 in UTC."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
