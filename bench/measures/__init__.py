"""The measures, one in each file."""
