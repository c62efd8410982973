"""The task manager's artifacts and codec: call data, events, hashes. The default convention is the wizard's.

The devnet checks the program, so this codec shares no code with `watcher.chain`.
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

_COMMON_FUNCTIONS: Mapping[str, tuple[str, ...]] = {
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
_PROXY_FUNCTIONS: Mapping[str, tuple[str, ...]] = {"upgradeTo": ("address",)}


@cache
def arguments_of(convention: Convention, *, coded: bool = False) -> Mapping[str, tuple[str, ...]]:
    """Return the argument types of each function: the contract's, or those of the encoding (`coded`)."""
    content = convention.coded_content if coded else convention.content
    task = convention.coded_task if coded else convention.task
    response = convention.coded_response if coded else convention.response
    own: dict[str, tuple[str, ...]] = {
        convention.create: (content, "uint32", "bytes"),
        "createManyTasks": (f"{content}[]", "uint32", "bytes"),
        convention.respond: (task, response, NON_SIGNERS),
    }
    return {**own, **_COMMON_FUNCTIONS, **dict.fromkeys(convention.views, ())}


ARGUMENTS = arguments_of(WIZARD)


@dataclass(frozen=True, slots=True)
class TaskStruct:
    """The contract's `Task` struct, with the same names in every convention."""

    created_block: int
    threshold: int
    message: bytes
    quorum_numbers: bytes
    convention: Convention = field(default=WIZARD, repr=False)

    def values(self) -> tuple[Any, ...]:
        """Return the fields in the contract's order."""
        values = {
            "created_block": self.created_block,
            "threshold": self.threshold,
            "message": self.convention.word(self.message),
            "quorum_numbers": self.quorum_numbers,
        }
        return tuple(values[name] for name in self.convention.task_fields)

    def hash(self) -> bytes:
        """Return keccak256(abi.encode(task)), as `allTaskHashes` stores it."""
        return keccak(encode([self.convention.coded_task], [self.values()]))


@dataclass(frozen=True, slots=True)
class Answered:
    """A `TaskResponded` event and its place on the chain."""

    index: int
    message: bytes
    block_number: int
    tx_hash: str


@cache
def artifact(name: str = WIZARD.artifact) -> dict[str, Any]:
    """Return ABI, bytecode and compiler settings of a contract, written by contracts/compile.mjs."""
    content: dict[str, Any] = json.loads(files(__package__).joinpath(f"{name}.json").read_text())
    return content


@cache
def selector(function: str, convention: Convention = WIZARD) -> bytes:
    types = _types(function, arguments_of(convention))
    return keccak(f"{function}({','.join(types)})".encode())[:4]


def _types(function: str, arguments: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return arguments[function] if function in arguments else _PROXY_FUNCTIONS[function]


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
    # No argument is dynamic, so they are words side by side, and the first may be left out.
    window = encode(["uint32"], [window_blocks]) if convention.has_window else b""
    return _code(convention.artifact) + window + encode(["address", "address"], [aggregator, generator])


def deploy_proxy_data(implementation: str) -> bytes:
    return _code("proxy") + encode(["address"], [implementation])


def _code(name: str) -> bytes:
    return bytes.fromhex(artifact(name)["bytecode"].removeprefix("0x"))


def response_digest(index: int, message: bytes, convention: Convention = WIZARD) -> bytes:
    """Return the digest that operators sign: keccak256(abi.encode(TaskResponse))."""
    return keccak(encode([convention.coded_response], [(index, convention.word(message))]))


def decode_task(data: bytes, convention: Convention = WIZARD) -> TaskStruct:
    """Return the task of a `NewTaskCreated` log's data."""
    (values,) = decode([convention.coded_task], data)
    return _task_of(values, convention)


def decode_response(data: bytes, convention: Convention = WIZARD) -> tuple[int, bytes]:
    """Return index and message of a `TaskResponded` log's data; the event has no indexed fields."""
    (index, message), _ = decode([convention.coded_response, METADATA], data)
    return index, message


def decode_params_raw(params_raw: bytes, convention: Convention = WIZARD) -> tuple[TaskStruct, int, bytes]:
    """Return task, index and message of the operator API's `params_raw`.

    It holds the arguments of the respond function without the last one, and no selector. Raises eth_abi's DecodingError
    for other bytes.
    """
    values, (index, message) = decode([convention.coded_task, convention.coded_response], params_raw)
    return _task_of(values, convention), index, message


def _task_of(values: tuple[Any, ...], convention: Convention) -> TaskStruct:
    return TaskStruct(**dict(zip(convention.task_fields, values, strict=True)), convention=convention)


def revert_reason(data: bytes) -> str:
    """Return the text of `Error(string)`, or the bytes as hex."""
    if data[:4] == keccak(b"Error(string)")[:4]:
        return str(decode(["string"], data[4:])[0])
    return "0x" + data.hex()
