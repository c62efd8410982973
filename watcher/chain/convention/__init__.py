"""The description of a task manager's contract: a TOML file, and the values and calls made from it."""
