"""The composition root: settings, logging, the daemon and its commands. The only place that knows every stage."""
