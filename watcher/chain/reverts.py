"""What a task manager means when it refuses an answer: revert data -> words and meaning. Pure.

Contracts word the same refusal in their own ways, so texts are looked for as parts, in any case. Only what is known
for certain holds an answer back; whatever is not recognised is UNCLEAR, and lets it go.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from watcher.chain.convention.abi import Codec, topic
from watcher.chain.convention.signature import Signature
from watcher.chain.rpc.errors import WORDS_LIMIT, clean
from watcher.chain.rpc.replies import Reverted
from watcher.errors import Quarantine


class Meaning(StrEnum):
    """What a refusal says about an answer that nobody has signed yet."""

    PASSES = "passes"  # the convention's own checks hold: it stumbles over the signatures, which are not there
    WAIT = "wait"  # it may pass in a later block, without anybody doing anything about the task
    PARK = "park"  # it passes only when a person, or an upgrade, changes something
    CALLER = "caller"  # the contract takes answers from another address than the one we played
    UNCLEAR = "unclear"  # we do not know what it means


@dataclass(frozen=True, slots=True)
class Refusal:
    """`words` are printable and of limited length; `kind` is what they have in common for tasks of the same trouble."""

    meaning: Meaning
    words: str
    kind: str


_M = Meaning

# In this order. The texts are those of AltLayer's wizard, of incredible squaring, of the contracts that descend from
# them, and of EigenLayer's BLSSignatureChecker; see docs/contract.md.
_TEXTS: tuple[tuple[str, Meaning], ...] = (
    ("aggregator must be the caller", _M.CALLER),
    ("supplied task does not match the one recorded", _M.PARK),
    ("already responded to the task", _M.WAIT),  # the judge will see the answer, or its event, in a moment
    ("aggregator has responded too late", _M.PARK),
    ("responded to the task too late", _M.PARK),
    ("empty quorum input", _M.PARK),
    ("quorum does not exist", _M.PARK),
    ("invalid reference block", _M.WAIT),  # at the block that made the task its stakes are not settled
    ("withdrawaldelayblocks window", _M.WAIT),
    ("pausable:", _M.WAIT),
    ("signatories do not own", _M.PASSES),  # nobody has signed: of course not
    ("length mismatch", _M.PASSES),
    ("quorumapk hash in storage", _M.PASSES),
    ("nonsignerpubkeys not sorted", _M.PASSES),
    ("nobody signed", _M.PASSES),
    ("signature is invalid", _M.PASSES),
    ("pairing precompile call failed", _M.PASSES),
)

# Later versions of the checker say the same in custom errors without arguments.
_CUSTOM: tuple[tuple[str, Meaning], ...] = (
    ("InputEmptyQuorumNumbers", _M.PARK),
    ("InvalidReferenceBlocknumber", _M.WAIT),
    ("StaleStakesForbidden", _M.WAIT),
    ("CurrentlyPaused", _M.WAIT),
    ("EnforcedPause", _M.WAIT),
    ("InputArrayLengthMismatch", _M.PASSES),
    ("InputNonSignerLengthMismatch", _M.PASSES),
    ("NonSignerPubkeysNotSorted", _M.PASSES),
    ("InvalidQuorumApkHash", _M.PASSES),
    ("InvalidBLSPairingKey", _M.PASSES),
    ("InvalidBLSSignature", _M.PASSES),
)
_BY_SELECTOR = {topic(f"{name}()")[:4]: (f"{name}()", meaning) for name, meaning in _CUSTOM}

_ERROR = topic("Error(string)")[:4]
_NO_ERRORS: Mapping[bytes, Signature] = MappingProxyType({})
_PANIC = topic("Panic(uint256)")[:4]
_PANICS = {
    0x01: "a failed assertion",
    0x11: "arithmetic overflow",
    0x12: "division by zero",
    0x21: "a value outside its enum",
    0x31: "pop of an empty array",
    0x32: "an index outside its array",
    0x41: "out of memory",
    0x51: "a call of an uninitialised function",
}
# A string is laid out as bytes are, and need not be UTF-8.
_STRING = Codec("bytes")
# What nodes put in front of a reason when they say it in words.
_PREAMBLE = re.compile(
    r"(error: )?(vm exception while processing transaction[: ]*)?"
    r"(vm execution error|execution reverted|reverted|revert)[:. ]*(with reason string)?[: ]*",
    re.IGNORECASE,
)


def refusal(said: Reverted, own: Mapping[bytes, Signature] = _NO_ERRORS) -> Refusal:
    """What a failed call means. Never raises, whatever the node has sent.

    `own`: the custom errors of the contract, by selector. What they mean for a task nobody has told us.
    """
    data = said.data or b""
    if data[:4] in _BY_SELECTOR:
        name, meaning = _BY_SELECTOR[data[:4]]
        return Refusal(meaning, name, name)
    if data[:4] in own:
        return Refusal(Meaning.UNCLEAR, _named(own[data[:4]], data[4:])[:WORDS_LIMIT], own[data[:4]].name)
    words = (decoded(data) or _bare(said.words))[:WORDS_LIMIT] or "nothing: it gives no reason"
    return Refusal(_meaning(words), words, words)


def decoded(data: bytes) -> str:
    """Revert data as words: a text, a panic, a custom error's selector. "" where there is none."""
    if data[:4] == _ERROR:
        try:
            (text,), _ = _STRING.decode(data[4:])
        except Quarantine:
            return "a text that cannot be decoded"
        return clean(text.decode("utf-8", "replace"))
    if data[:4] == _PANIC and len(data) == 36:
        code = int.from_bytes(data[4:])
        return f"Panic(0x{code:02x}): {_PANICS.get(code, 'of an unknown kind')}" if code < 256 else "Panic"
    if len(data) >= 4:
        return f"a custom error 0x{data[:4].hex()}"
    return ""


def _named(error: Signature, data: bytes) -> str:
    try:
        values, _ = Codec(*(one.type for one in error.inputs)).decode(data)
    except Quarantine:
        return f"{error.name}, with values that cannot be decoded"
    pairs = zip(error.inputs, values, strict=True)
    shown = ", ".join(f"{one.name}={_shown(value)}" if one.name else _shown(value) for one, value in pairs)
    return f"{error.name}({shown})"


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return "0x" + value[:WORDS_LIMIT].hex()
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_shown, value[:WORDS_LIMIT]))})"
    return clean(str(value))


def _bare(words: str) -> str:
    found = _PREAMBLE.match(words)
    return words[found.end() :].strip("'\"") if found else words


def _meaning(words: str) -> Meaning:
    said = words.lower()
    return next((meaning for text, meaning in _TEXTS if text in said), Meaning.UNCLEAR)
