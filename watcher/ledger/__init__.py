"""QUEUE: the ledger is the queue, the memory and the evidence. The only package that speaks SQL."""
