"""The task manager's artifacts, and how to speak to it: call data, events, hashes.

Written apart from `watcher.chain` on purpose: the devnet judges the program, so it must not share its codec. Where no
convention is named, it is the wizard's.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from eth_abi.abi import decode, encode
from eth_hash.auto import keccak

from watcher.devnet.conventions import WIZARD, Convention

G1 = "(uint256,uint256)"
G2 = "(uint256[2],uint256[2])"
TASK = WIZARD.task
RESPONSE = WIZARD.response
METADATA = "(uint32,bytes32)"
NON_SIGNERS = f"(uint32[],{G1}[],{G1}[],{G2},{G1},uint32[],uint32[],uint32[][])"

_OF_ALL: Mapping[str, tuple[str, ...]] = {
    "registerOperator": (G1, G2, G1, "bytes", "uint96"),
    "registrationDigest": ("bytes32",),
    "verifySignature": ("bytes32", G1, G2, G1),
    "quorumAt": ("uint8", "uint32"),
    "setAggregator": ("address",),
    "setGenerator": ("address",),
    "latestTaskNum": (),
    "allTaskHashes": ("uint32",),
    "allTaskResponses": ("uint32",),
    "aggregator": (),
    "generator": (),
}
_OF_PROXY: Mapping[str, tuple[str, ...]] = {"upgradeTo": ("address",)}


@cache
def arguments_of(convention: Convention, *, coded: bool = False) -> Mapping[str, tuple[str, ...]]:
    """Every function of a task manager with its types: the contract's, or those they are coded with."""
    content = convention.coded_content if coded else convention.content
    task = convention.coded_task if coded else convention.task
    response = convention.coded_response if coded else convention.response
    own: dict[str, tuple[str, ...]] = {
        convention.create: (content, "uint32", "bytes"),
        "createManyTasks": (f"{content}[]", "uint32", "bytes"),
        convention.respond: (task, response, NON_SIGNERS),
    }
    return {**own, **_OF_ALL, **dict.fromkeys(convention.views, ())}


ARGUMENTS = arguments_of(WIZARD)


@dataclass(frozen=True, slots=True)
class TaskWords:
    """The contract's `Task` struct, whatever the order and the names of its fields there."""

    created_block: int
    threshold: int
    message: bytes
    quorum_numbers: bytes
    convention: Convention = field(default=WIZARD, repr=False)

    def words(self) -> tuple[Any, ...]:
        """The fields in the contract's order."""
        values = {
            "created_block": self.created_block,
            "threshold": self.threshold,
            "message": self.convention.word(self.message),
            "quorum_numbers": self.quorum_numbers,
        }
        return tuple(values[name] for name in self.convention.task_fields)

    def hash(self) -> bytes:
        """What `allTaskHashes` holds: keccak256(abi.encode(task))."""
        return keccak(encode([self.convention.coded_task], [self.words()]))


@dataclass(frozen=True, slots=True)
class Answered:
    """A `TaskResponded` event and where it was mined."""

    index: int
    message: bytes
    block_number: int
    tx_hash: str


@cache
def artifact(name: str = WIZARD.artifact) -> dict[str, Any]:
    """ABI, bytecode and how they were compiled; see contracts/compile.mjs."""
    loaded: dict[str, Any] = json.loads(files(__package__).joinpath(f"{name}.json").read_text())
    return loaded


@cache
def selector(function: str, convention: Convention = WIZARD) -> bytes:
    types = _types(function, arguments_of(convention))
    return keccak(f"{function}({','.join(types)})".encode())[:4]


def _types(function: str, arguments: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return arguments[function] if function in arguments else _OF_PROXY[function]


@cache
def created_topic(convention: Convention = WIZARD) -> bytes:
    return keccak(f"NewTaskCreated(uint32,{convention.task})".encode())


@cache
def responded_topic(convention: Convention = WIZARD) -> bytes:
    return keccak(f"TaskResponded({convention.response},{METADATA})".encode())


NEW_TASK_CREATED = created_topic()
TASK_RESPONDED = responded_topic()


def call_data(function: str, *arguments: Any, convention: Convention = WIZARD) -> bytes:
    types = _types(function, arguments_of(convention, coded=True))
    return selector(function, convention) + encode(types, arguments)


def deploy_data(window_blocks: int, aggregator: str, generator: str, convention: Convention = WIZARD) -> bytes:
    # Nothing is dynamic, so the arguments are words side by side and the first may be left out.
    window = encode(["uint32"], [window_blocks]) if convention.has_window else b""
    return _code(convention.artifact) + window + encode(["address", "address"], [aggregator, generator])


def deploy_proxy_data(implementation: str) -> bytes:
    return _code("proxy") + encode(["address"], [implementation])


def _code(name: str) -> bytes:
    return bytes.fromhex(artifact(name)["bytecode"].removeprefix("0x"))


def response_digest(index: int, message: bytes, convention: Convention = WIZARD) -> bytes:
    """What operators sign: keccak256(abi.encode(TaskResponse))."""
    return keccak(encode([convention.coded_response], [(index, convention.word(message))]))


def decode_task(data: bytes, convention: Convention = WIZARD) -> TaskWords:
    """The data of a `NewTaskCreated` log."""
    (words,) = decode([convention.coded_task], data)
    return _task_of(words, convention)


def decode_response(data: bytes, convention: Convention = WIZARD) -> tuple[int, bytes]:
    """Index and message from the data of a `TaskResponded` log; nothing of it is indexed."""
    (index, message), _ = decode([convention.coded_response, METADATA], data)
    return index, message


def decode_params_raw(params_raw: bytes, convention: Convention = WIZARD) -> tuple[TaskWords, int, bytes]:
    """The operator API's `params_raw`: the response function's arguments without the last one, and no selector.

    Raises eth_abi's DecodingError when the bytes are something else.
    """
    words, (index, message) = decode([convention.coded_task, convention.coded_response], params_raw)
    return _task_of(words, convention), index, message


def _task_of(words: tuple[Any, ...], convention: Convention) -> TaskWords:
    return TaskWords(**dict(zip(convention.task_fields, words, strict=True)), convention=convention)


def revert_reason(data: bytes) -> str:
    """The text of `Error(string)`, or the bytes as hex."""
    if data[:4] == keccak(b"Error(string)")[:4]:
        return str(decode(["string"], data[4:])[0])
    return "0x" + data.hex()
