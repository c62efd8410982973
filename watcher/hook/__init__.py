"""ANSWER: the author's business logic, found by name and run in processes that can be killed.

`protocol` is the contract of a hook, `load` imports it, `worker` runs it in a child process, `pool` hands tasks to the
processes, `runner` is the face of them all, and `respond` is the stage. Invariant: no line of a hook ever runs in the
daemon's own process.
"""
