"""Reads the chain: tasks and responses as the contract emitted them, and what the contract holds about each."""
