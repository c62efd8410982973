"""`watcher check`: each part of an installation, checked and explained."""
