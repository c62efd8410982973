"""What is told of the APIs in the log, each trouble once: every task of a kind, and every attempt, has the same one."""

from loguru import logger

from watcher.operator.route import Route, reached
from watcher.task import Sent

_LIMIT = 100


class LogOnce:
    """Remembers what was told."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._away: set[str] = set()

    def once(self, words: str, key: str = "") -> None:
        """A warning, until the settings change."""
        if (key or words) not in self._told and len(self._told) < _LIMIT:
            self._told.add(key or words)
            logger.warning("{}", words)

    def settings_changed(self) -> None:
        """What stood in the way may be mended, and is told again if it is not."""
        self._told.clear()

    def circuit(self, route: Route, was_closed: bool, sent: Sent) -> None:
        """Tell that sending to an API stops or goes on, after what came back has been recorded there."""
        if was_closed and not route.circuit.closed:
            why = "refuses us" if reached(sent) else "cannot be reached"
            logger.error("the {} API {}, sending there stops: {}", route.api, why, sent.words)
        elif not was_closed and route.circuit.closed:
            logger.info("the {} API takes our requests again", route.api)

    def reached(self, api: str, sent: Sent) -> bool:
        """Tell that an API is away, and that it answers again. Returns whether this attempt says nothing new."""
        if reached(sent):
            if api in self._away:
                logger.info("the {} API answers again", api)
            self._away.discard(api)
            return False
        if api in self._away:
            return True
        logger.warning("the {} API cannot be reached: {}; this is told once, not for every attempt", api, sent.words)
        self._away.add(api)
        return False
