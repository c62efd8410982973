"""The views for people who know SQL, which `ledger/schema.py` makes behind every upgrade."""

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Change no table."""
