"""AUDIT: listings and proofs of the content of the ledger. Reads only."""
