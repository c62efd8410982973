"""`watcher check`: each part of an installation, examined and explained."""
