"""The cost of the watcher beside that of the script a team would write first. Run with `python -m bench`.

Only ratios between the two sides of one run are results; see docs/dev/benchmarks.md.
"""
