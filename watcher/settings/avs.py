"""One AVS of the configuration: its name, and its settings or what is wrong with them."""

from dataclasses import dataclass

from watcher.errors import FixConfiguration
from watcher.settings.model import Settings


@dataclass(frozen=True, slots=True)
class Avs:
    """One AVS. `name` is "" for the only one of a file without [[avs]]; `problems` say why there are no settings."""

    name: str
    settings: Settings | None = None
    problems: tuple[str, ...] = ()

    def usable(self) -> Settings:
        """Return the settings. Raises FixConfiguration with every problem, without the name of the AVS."""
        if self.settings is None:
            raise FixConfiguration(*self.problems)
        return self.settings
