"""The types of messages and answers, for pages and commands that show them."""

from dataclasses import replace
from pathlib import Path

from watcher.abi.layout import layout
from watcher.errors import FixConfiguration
from watcher.report.payload import Decoder
from watcher.settings.model import Settings


def decoder_of(settings: Settings) -> Decoder:
    """Return the types of the hook, and of the convention; not those of a wrong file, which `watcher check` reports."""
    from watcher.chain.convention.convention import convention  # late: `watcher tasks` needs the other function alone

    section = settings.task_manager
    file = Path(section.convention_file) if section.convention_file else None
    try:
        types = convention(section.convention, file, section.message_limit_bytes, answers=False)
    except FixConfiguration:
        return value_decoder(settings)
    return replace(
        value_decoder(settings), answer_type=types.answer.kind, answer=types.answer.value_of, fields=types.fields
    )


def value_decoder(settings: Settings) -> Decoder:
    """Return the types of the hook alone: quick, because no convention is read."""
    return Decoder(
        message_values=layout("message", settings.hook.message),
        response_values=layout("response", settings.hook.response),
    )
