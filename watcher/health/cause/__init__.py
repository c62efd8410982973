"""Why a task is in its state now, and what to do: one file for each part of a task's way."""
