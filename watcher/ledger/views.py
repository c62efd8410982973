"""The views for people who know SQL: `audit_task`, `audit_attempt` and `audit_journal`, alike on both databases.

Bytes are lower-case 0x hex, times ISO 8601 in UTC. Invariant: the columns of a view are an interface: later versions
add to them at the end, and neither rename nor remove one. The views are made anew behind each upgrade, so no revision
holds one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

_LAST_S = 253_402_300_799  # the end of the year 9999


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """A column of a view: its name, its expression over the tables, the form of its value, and a sentence about it."""

    name: str
    sql: str
    form: str
    about: str


@dataclass(frozen=True, slots=True)
class AuditView:
    """A view: a sentence about its rows, the tables it reads, and its columns."""

    about: str
    tables: str
    columns: tuple[ViewColumn, ...]


_OURS = "('responded', 'final')"
_OTHER = "('responded_other', 'final_other')"
_FROM_TASKS = "tasks JOIN sources ON sources.id = tasks.source_id"


def _column(name: str, form: str, about: str, sql: str = "") -> ViewColumn:
    return ViewColumn(name, sql or f"tasks.{name}", form, about)


VIEWS: Mapping[str, AuditView] = {
    "audit_task": AuditView(
        "A task, with its answer and what the chain shows of it.",
        _FROM_TASKS,
        (
            _column("task_id", "plain", "The row of the task, to which attempts and journal refer.", "tasks.id"),
            _column("chain_id", "number", "The chain.", "sources.chain_id"),
            _column("task_manager", "hex", "The contract.", "sources.task_manager"),
            _column("task_index", "number", "The index in the contract; as 0x hex from 2^63 on in SQLite."),
            _column("task_hash", "hex", "keccak256(abi.encode(Task)), as the contract holds it."),
            _column("state", "plain", "The state; docs/states.md has them all."),
            _column("canonical", "flag", "1 while the chain contains the task's block, else 0."),
            _column("message", "hex", "What the task asks."),
            _column("task_created_block", "plain", "The contract's own taskCreatedBlock.", "tasks.created_block"),
            _column("block_number", "plain", "The block of the log."),
            _column("block_hash", "hex", "The hash of that block."),
            _column("created_at", "s", "The time of that block; null until a node shows it.", "tasks.block_time_s"),
            _column("created_tx_hash", "hex", "The transaction that created the task."),
            _column("deadline_block", "plain", "The last block in which a response is admissible; null without one."),
            _column("deadline_at", "s", "A deadline that is a time.", "tasks.deadline_s"),
            _column("response", "hex", "Our answer: the hook's first result, which never changes."),
            _column("hook_version", "plain", "The version of the hook that gave it."),
            _column("hook_attempts", "plain", "Failed runs of the hook."),
            _column("attempts", "plain", "POSTs to the API."),
            _column("claimed_tx_hash", "hex", "The transaction that the API claims.", "tasks.tx_hash"),
            _column("claimed_sig_hash", "hex", "The digest that the API claims to have signed.", "tasks.sig_hash"),
            _column(
                "answered_by",
                "plain",
                "ours or other, by the chain; null without a response.",
                f"CASE WHEN tasks.state IN {_OURS} THEN 'ours' WHEN tasks.state IN {_OTHER} THEN 'other' END",
            ),
            _column("responded_block", "plain", "The block of the response."),
            _column("responded_at", "s", "The time of that block.", "tasks.responded_time_s"),
            _column("responded_by", "hex", "The sender of the response; null until a node shows it."),
            _column("responded_tx_hash", "hex", "The transaction of the response."),
            _column("response_hash", "hex", "The hash of the response in the contract."),
            _column(
                "response_blocks",
                "plain",
                "Blocks from the task to its response.",
                "tasks.responded_block - tasks.block_number",
            ),
            _column("response_s", "plain", "The seconds between.", "tasks.responded_time_s - tasks.block_time_s"),
            _column("error", "plain", "The last obstacle."),
            _column("seen_at", "ms", "When the daemon saw the task first.", "tasks.seen_at_ms"),
            _column("updated_at", "ms", "When its row changed last.", "tasks.updated_at_ms"),
        ),
    ),
    "audit_attempt": AuditView(
        "A run of the hook, or a POST to the API.",
        f"attempts JOIN tasks ON tasks.id = attempts.task_id JOIN {_FROM_TASKS.replace('tasks JOIN ', '')}",
        (
            _column("attempt_id", "plain", "The row of the attempt.", "attempts.id"),
            _column("task_id", "plain", "The row of its task.", "attempts.task_id"),
            _column("task_index", "number", "The index of its task."),
            _column("kind", "plain", "hook or post.", "attempts.kind"),
            _column("number", "plain", "The how-manieth attempt of its kind.", "attempts.number"),
            _column("api", "plain", "The API of a POST: proxy or operator.", "attempts.api"),
            _column("request_digest", "hex", "SHA-256 of the request without its id.", "attempts.request_digest"),
            _column("began_at", "ms", "When it began; stored before the request is sent.", "attempts.began_at_ms"),
            _column("ended_at", "ms", "When it ended; null where it was cut off.", "attempts.ended_at_ms"),
            _column("duration_ms", "plain", "How long it took.", "attempts.duration_ms"),
            _column("outcome", "plain", "accepted, refused, unknown, ...; null: cut off.", "attempts.outcome"),
            _column("http_status", "plain", "The status of the reply.", "attempts.http_status"),
            _column("code", "plain", "The JSON-RPC code of the reply.", "attempts.code"),
            _column("reply", "hex", "The body of the reply.", "attempts.answer"),
            _column("reason", "plain", "The reason in words.", "attempts.words"),
            _column("tx_hash", "hex", "The transaction that the API claims.", "attempts.tx_hash"),
            _column("sig_hash", "hex", "The digest that the API claims to have signed.", "attempts.sig_hash"),
        ),
    ),
    "audit_journal": AuditView(
        "A transition of a task; lines are only added.",
        f"journal JOIN tasks ON tasks.id = journal.task_id JOIN {_FROM_TASKS.replace('tasks JOIN ', '')}",
        (
            _column("line_id", "plain", "The row of the line, in the order of the transitions.", "journal.id"),
            _column("task_id", "plain", "The row of its task.", "journal.task_id"),
            _column("task_index", "number", "The index of its task."),
            _column("at", "ms", "When it was made.", "journal.at_ms"),
            _column("from_state", "plain", "The state before; null for the first line.", "journal.from_state"),
            _column("to_state", "plain", "The state after.", "journal.to_state"),
            _column("why", "plain", "The reason, with the person of a manual change.", "journal.why"),
            _column("attempt_id", "plain", "The attempt that caused it.", "journal.attempt_id"),
        ),
    ),
}

_ON_SQLITE = {
    "plain": "{0}",
    "flag": "{0}",
    "hex": "'0x' || lower(hex({0}))",
    "number": "CASE typeof({0}) WHEN 'blob' THEN '0x' || lower(hex({0})) ELSE {0} END",
    "ms": "strftime('%Y-%m-%dT%H:%M:%fZ', {0} / 1000.0, 'unixepoch')",
    "s": "CASE WHEN {0} <= " + str(_LAST_S) + " THEN strftime('%Y-%m-%dT%H:%M:%SZ', {0}, 'unixepoch') END",
}
_ON_POSTGRESQL = {
    "plain": "{0}",
    "flag": "{0}::int",
    "hex": "'0x' || encode({0}, 'hex')",
    "number": "{0}",
    "ms": "to_char(to_timestamp({0} / 1000.0) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
    "s": "CASE WHEN {0} <= "
    + str(_LAST_S)
    + " THEN to_char(to_timestamp({0}) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') END",
}


def drop_views(connection: Connection) -> None:
    """Drop the views, so that a revision can rebuild the tables under them."""
    for name in VIEWS:
        connection.exec_driver_sql("DROP VIEW IF EXISTS " + name)


def create_views(connection: Connection) -> None:
    """Make the views anew."""
    drop_views(connection)
    for name, view in VIEWS.items():
        connection.exec_driver_sql("CREATE VIEW " + name + " AS " + select_of(view, connection.dialect.name))
        if connection.dialect.supports_comments:
            connection.exec_driver_sql("COMMENT ON VIEW " + name + " IS " + _quoted(view.about))
            for column in view.columns:
                place = name + "." + column.name
                connection.exec_driver_sql("COMMENT ON COLUMN " + place + " IS " + _quoted(column.about))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def select_of(view: AuditView, dialect: str) -> str:
    """Return the query that a view stands for."""
    forms = _ON_SQLITE if dialect == "sqlite" else _ON_POSTGRESQL
    columns = [f"{_null_safe(forms, column)} AS {column.name}" for column in view.columns]
    return f"SELECT {', '.join(columns)} FROM {view.tables}"  # noqa: S608 - constants of this file


def _null_safe(forms: Mapping[str, str], column: ViewColumn) -> str:
    expression = forms[column.form].format(column.sql)
    return f"CASE WHEN {column.sql} IS NOT NULL THEN {expression} END" if column.form == "hex" else expression
