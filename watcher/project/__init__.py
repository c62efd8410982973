"""Projects of hooks, as `watcher init --template` writes them."""
