"""The conventions of the devnet's task managers, as data.

The devnet checks the program, so this file shares nothing with the presets of `watcher.chain`.

Content is `bytes` here in every convention: a `string` is its UTF-8, a `uint256` its 32 bytes. These have the encodings
of `bytes` and `bytes32`, so only names (selectors, topics) use the contract's types.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

# The type with the same encoding whose values are bytes.
_CODED = {"bytes": "bytes", "string": "bytes", "uint256": "bytes32"}
_WORD_BYTES = 32

Name = Literal["wizard", "wizard-bridge", "incredible-squaring", "chainbase"]


@dataclass(frozen=True, slots=True)
class Convention:
    """One convention.

    Attributes:
        name: the name of the preset in watcher.toml.
        artifact: the name of the compiled contract.
        content: the type of a task's message and of an answer: bytes, string or uint256.
        task_fields: the fields of the struct `Task` in order, by the names of `contract.TaskStruct`.
        create: the function that creates a task.
        respond: the function that takes an answer.
        views: the functions that not every convention has.
        api: the hosted API that serves it. The proxy builds the task itself, and has only the wizard's struct.
        hook: the target of the example.
        question: returns the message of a task that the example can answer, by number.
    """

    name: Name
    artifact: str
    content: str
    task_fields: tuple[str, ...]
    create: str
    respond: str
    views: tuple[str, ...]
    api: Literal["proxy", "operator"]
    hook: str
    question: Callable[[int], bytes]

    @property
    def task(self) -> str:
        """Return the type of the struct `Task`."""
        return self._task_of(self.content)

    @property
    def response(self) -> str:
        """Return the type of the struct `TaskResponse`."""
        return f"(uint32,{self.content})"

    @property
    def coded_task(self) -> str:
        return self._task_of(_CODED[self.content])

    @property
    def coded_response(self) -> str:
        return f"(uint32,{_CODED[self.content]})"

    @property
    def coded_content(self) -> str:
        return _CODED[self.content]

    @property
    def has_window(self) -> bool:
        """Return True if answers have a last block; the constructor then takes the window."""
        return "TASK_RESPONSE_WINDOW_BLOCK" in self.views

    def _task_of(self, content: str) -> str:
        types = {"created_block": "uint32", "threshold": "uint32", "message": content, "quorum_numbers": "bytes"}
        return f"({','.join(types[field] for field in self.task_fields)})"

    def word(self, content: bytes) -> bytes:
        """Return content as it is encoded: a number fills its 32-byte word. Raises ValueError if it does not fit."""
        if self.content != "uint256":
            return content
        if len(content) > _WORD_BYTES:
            raise ValueError(f"a uint256 has 32 bytes, not {len(content)}")
        return content.rjust(_WORD_BYTES, b"\0")


def _number(number: int) -> bytes:
    return number.to_bytes(_WORD_BYTES, "big")


def _transfer(number: int) -> bytes:
    return b"\x22" * 20 + _number(number)


def _text(number: int) -> bytes:
    return f"task {number}".encode()


_WIZARD_FIELDS = ("created_block", "threshold", "message", "quorum_numbers")
_SQUARING_FIELDS = ("message", "created_block", "quorum_numbers", "threshold")

WIZARD = Convention(
    name="wizard",
    artifact="task_manager",
    content="bytes",
    task_fields=_WIZARD_FIELDS,
    create="createNewTask",
    respond="respondToTask",
    views=("TASK_RESPONSE_WINDOW_BLOCK",),
    api="proxy",
    hook="squaring:respond",
    question=_number,
)
BRIDGE = Convention(
    name="wizard-bridge",
    artifact="bridge_task_manager",
    content="bytes",
    task_fields=_WIZARD_FIELDS,
    create="createNewBridgeRequest",
    respond="respondToRequest",
    views=("TASK_RESPONSE_WINDOW_BLOCK",),
    api="proxy",
    hook="bridge:respond",
    question=_transfer,
)
SQUARING = Convention(
    name="incredible-squaring",
    artifact="squaring_task_manager",
    content="uint256",
    task_fields=_SQUARING_FIELDS,
    create="createNewTask",
    respond="respondToTask",
    views=("TASK_RESPONSE_WINDOW_BLOCK", "getTaskResponseWindowBlock", "taskNumber"),
    api="operator",
    hook="incredible_squaring:respond",
    question=_number,
)
CHAINBASE = Convention(
    name="chainbase",
    artifact="chainbase_task_manager",
    content="string",
    task_fields=_SQUARING_FIELDS,
    create="createNewTask",
    respond="respondToTask",
    views=("taskNumber",),
    api="operator",
    hook="chainbase:respond",
    question=_text,
)

CONVENTIONS: Mapping[Name, Convention] = MappingProxyType({c.name: c for c in (WIZARD, BRIDGE, SQUARING, CHAINBASE)})
