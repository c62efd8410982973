"""Health: readings, the verdict on them, and its ways out: HTTP, metrics, STATUS, alerts."""
