"""The views for people who know SQL, which `ledger/schema.py` makes behind every upgrade."""

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Change no table."""
