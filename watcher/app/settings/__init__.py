"""What the watcher is told: a file, secrets and the environment, as checked values."""
