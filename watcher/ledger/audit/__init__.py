"""The audit chain: every change of journal, attempts and the facts of tasks, bound by hashes (docs/audit-format.md)."""
