"""Alembic's entry: runs the revisions on the connection that `watcher.ledger.schema` hands over."""

from alembic import context

from watcher.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
