"""The span of blocks in one request for logs: halved when a node refuses it, doubled after enough pages."""

from loguru import logger

from watcher.errors import NarrowRange

_GROW_AFTER_PAGES = 16
_MANY_LOGS = 500


class Span:
    """The present span, `most_blocks` at most."""

    def __init__(self, most_blocks: int) -> None:
        self.blocks = most_blocks
        self._most_blocks = most_blocks
        self._pages_since_refusal = 0

    def narrow(self, refusal: NarrowRange) -> None:
        """Halve the span, which a node has refused."""
        self.blocks = max(1, self.blocks // 2)
        self._pages_since_refusal = 0
        logger.info(
            "chain.span_narrowed: a node refused the span of blocks; a shorter one is tried",
            blocks=self.blocks,
            reason=str(refusal),
        )

    def widen(self) -> None:
        """Count a page, and double the span after enough of them."""
        self._pages_since_refusal += 1
        if self.blocks < self._most_blocks and self._pages_since_refusal >= _GROW_AFTER_PAGES:
            self.blocks = min(self.blocks * 2, self._most_blocks)
            self._pages_since_refusal = 0

    def follow(self, blocks: int, logs: int) -> None:
        """Count a page of so many blocks and logs. Many logs at once are memory: the next page has half the blocks."""
        if logs > _MANY_LOGS:
            self.blocks = max(1, blocks // 2)
            self._pages_since_refusal = 0
        else:
            self.widen()
