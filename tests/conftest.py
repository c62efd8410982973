"""What all tests share: how hypothesis runs."""

from hypothesis import HealthCheck, settings

# The first example pays for imports and tables, and a loaded machine for everything: no example has a deadline.
settings.register_profile("watcher", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("watcher")
