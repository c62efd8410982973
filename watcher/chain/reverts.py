"""The meaning of a task manager's refusal of an answer, from its revert data. Pure.

Contracts word the same refusal differently, so a text is recognised by a part of it, in any case. Only a refusal of
known meaning holds an answer back; an unknown one is UNCLEAR, and the answer is sent.
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
from watcher.text import to_hex


class Meaning(StrEnum):
    """The consequence of a refusal for an answer that is not signed yet."""

    ADMISSIBLE = "passes"  # all checks but the signatures hold, and the signatures are missing
    NEXT = "next"  # the answer passes from the block after the task's own on, if nothing else is against it
    WAIT = "wait"  # the answer may pass in a later block, without any action
    PARK = "park"  # the answer passes only after a person, or an upgrade, changes something
    CALLER = "caller"  # the contract takes answers from another address than the sender of the call
    UNCLEAR = "unclear"  # the meaning is unknown


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal. `reason` is printable and of limited length; `kind` is the same for tasks with the same cause."""

    meaning: Meaning
    reason: str
    kind: str


_M = Meaning

# In this order. The texts are from AltLayer's wizard, incredible squaring, the contracts that descend from them, and
# EigenLayer's BLSSignatureChecker; see docs/contract.md.
_TEXTS: tuple[tuple[str, Meaning], ...] = (
    ("aggregator must be the caller", _M.CALLER),
    ("supplied task does not match the one recorded", _M.PARK),
    ("already responded to the task", _M.WAIT),  # the resolver will see the answer, or its event, in a moment
    ("aggregator has responded too late", _M.PARK),
    ("responded to the task too late", _M.PARK),
    ("empty quorum input", _M.PARK),
    ("quorum does not exist", _M.PARK),
    ("invalid reference block", _M.NEXT),  # the stakes at the task's own block count only from the next block on
    ("withdrawaldelayblocks window", _M.WAIT),
    ("pausable:", _M.WAIT),
    ("signatories do not own", _M.ADMISSIBLE),  # the call has no signatures
    ("length mismatch", _M.ADMISSIBLE),
    ("quorumapk hash in storage", _M.ADMISSIBLE),
    ("nonsignerpubkeys not sorted", _M.ADMISSIBLE),
    ("nobody signed", _M.ADMISSIBLE),
    ("signature is invalid", _M.ADMISSIBLE),
    ("pairing precompile call failed", _M.ADMISSIBLE),
)

# Later versions of the checker use custom errors without arguments.
_CUSTOM: tuple[tuple[str, Meaning], ...] = (
    ("InputEmptyQuorumNumbers", _M.PARK),
    ("InvalidReferenceBlocknumber", _M.NEXT),
    ("StaleStakesForbidden", _M.WAIT),
    ("CurrentlyPaused", _M.WAIT),
    ("EnforcedPause", _M.WAIT),
    ("InputArrayLengthMismatch", _M.ADMISSIBLE),
    ("InputNonSignerLengthMismatch", _M.ADMISSIBLE),
    ("NonSignerPubkeysNotSorted", _M.ADMISSIBLE),
    ("InvalidQuorumApkHash", _M.ADMISSIBLE),
    ("InvalidBLSPairingKey", _M.ADMISSIBLE),
    ("InvalidBLSSignature", _M.ADMISSIBLE),
)
_BY_SELECTOR = {topic(f"{name}()")[:4]: Refusal(meaning, f"{name}()", f"{name}()") for name, meaning in _CUSTOM}

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
# A string has the layout of bytes, and need not be UTF-8.
_STRING = Codec("bytes")
# The text that nodes put in front of a reason.
_PREAMBLE = re.compile(
    r"(error: )?(vm exception while processing transaction[: ]*)?"
    r"(vm execution error|execution reverted|reverted|revert)[:. ]*(with reason string)?[: ]*",
    re.IGNORECASE,
)


def refusal(reverted: Reverted, own: Mapping[bytes, Signature] = _NO_ERRORS) -> Refusal:
    """Return the meaning of a failed call. Never raises, whatever the node has sent.

    `own`: the custom errors of the contract, by selector. Their names are known, and their meaning is UNCLEAR.
    """
    data = reverted.data or b""
    if (known := _BY_SELECTOR.get(data[:4])) is not None:
        return known
    if data[:4] in own:
        return Refusal(Meaning.UNCLEAR, _named(own[data[:4]], data[4:])[:WORDS_LIMIT], own[data[:4]].name)
    reason = (decoded(data) or _bare(reverted.message))[:WORDS_LIMIT] or "nothing: it gives no reason"
    return Refusal(_meaning(reason), reason, reason)


def decoded(data: bytes) -> str:
    """Return revert data as text: the reason, a panic, a custom error's selector; "" where there is none."""
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
        values, _ = Codec(*(parameter.type for parameter in error.inputs)).decode(data)
    except Quarantine:
        return f"{error.name}, with values that cannot be decoded"
    pairs = zip(error.inputs, values, strict=True)
    named = (f"{parameter.name}=" * bool(parameter.name) + _text(value) for parameter, value in pairs)
    return f"{error.name}({', '.join(named)})"


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return to_hex(value[:WORDS_LIMIT])
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_text, value[:WORDS_LIMIT]))})"
    return clean(str(value))


def _bare(reason: str) -> str:
    """Return the reason without the text that nodes put in front of it."""
    preamble = _PREAMBLE.match(reason)
    return reason[preamble.end() :].strip("'\"") if preamble else reason


def _meaning(reason: str) -> Meaning:
    lower = reason.lower()
    return next((meaning for text, meaning in _TEXTS if text in lower), Meaning.UNCLEAR)
