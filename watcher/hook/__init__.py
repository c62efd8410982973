"""ANSWER: the author's business logic, found by name and run in processes that can be killed.

`protocol` says what a hook is, `load` finds it, `worker` runs it in a child, `pool` keeps the children. Invariant: no
line of a hook ever runs in the daemon's own process.
"""
