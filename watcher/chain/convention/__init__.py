"""How a task manager's contract looks: a TOML file, and what the code reads out of it."""
