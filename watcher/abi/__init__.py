"""The values that messages and answers hold, by their ABI types."""
