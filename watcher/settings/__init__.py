"""Settings: the model, where values come from, and checks that need more than one value."""
