"""The daemon: wiring of the stages, start, drain, reload, periodic jobs."""
