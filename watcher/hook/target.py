"""The setting hook.target, as messages name it. Standard library only."""

from watcher.redact import hide_urls
from watcher.text import clean

_TARGET = "hook.target = "


def setting(target: str) -> str:
    """Return the setting of the hook with its value, as a message names it; of a URL only the public part."""
    return f"{_TARGET}{clean(hide_urls(target), 200)!r}"


def setting_of_shadow(message: str) -> str:
    """Return the message of a runner or its worker, which name hook.target, with the setting of the shadow instead."""
    return f"hook.shadow.target = {message.removeprefix(_TARGET)}" if message.startswith(_TARGET) else message
