"""JSON-RPC: transport, batches, checked replies, fail-over."""
