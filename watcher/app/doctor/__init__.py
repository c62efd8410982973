"""What `watcher check` tries, one file per part. Nothing here has an effect that outlives the check."""
