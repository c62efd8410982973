"""What the watcher is measured beside: each peer in a file or folder of its own."""
