"""The commands, one file each. Each imports what is heavy only when it is called."""
