"""What the watcher costs, side by side with the script a team would write first. Run with `python -m bench`.

Only ratios between the two sides of one run mean anything; see docs/dev/benchmarks.md.
"""
