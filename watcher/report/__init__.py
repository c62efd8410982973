"""AUDIT: what the ledger holds, told and proved. Reads only."""
