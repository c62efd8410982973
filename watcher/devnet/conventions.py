"""The conventions of task managers the devnet can play, as data: what differs between them, and nothing else.

Written apart from `watcher.chain` on purpose: the devnet judges the program, so it must not share its knowledge.

Content is `bytes` everywhere in here, whatever the contract calls it: a `string` is its UTF-8, a `uint256` its 32
bytes. Their encodings are those of `bytes` and `bytes32`, so only names (selectors, topics) use the contract's types.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

# How content of a type travels: the type that has the same encoding and whose values are bytes.
_CODED = {"bytes": "bytes", "string": "bytes", "uint256": "bytes32"}
_WORD_BYTES = 32

Name = Literal["wizard", "wizard-bridge", "incredible-squaring", "chainbase"]


@dataclass(frozen=True, slots=True)
class Convention:
    """`content` is the type of what a task asks and of what a response says: bytes, string or uint256.

    `task_fields` is the order of the struct `Task`, in the names of `contract.TaskWords`. `views` are the functions
    that not every convention has. `api` is the hosted API that can serve it: the proxy builds the task itself and
    knows the wizard's struct only. `hook` is the example's target, and `question` makes a task it can answer.
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
        """The struct `Task` as a type."""
        return self._task_of(self.content)

    @property
    def response(self) -> str:
        """The struct `TaskResponse` as a type."""
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
        """Is there a last block for an answer? The window is an argument of the constructor then."""
        return "TASK_RESPONSE_WINDOW_BLOCK" in self.views

    def _task_of(self, content: str) -> str:
        types = {"created_block": "uint32", "threshold": "uint32", "message": content, "quorum_numbers": "bytes"}
        return f"({','.join(types[field] for field in self.task_fields)})"

    def word(self, content: bytes) -> bytes:
        """The content as it is encoded: a number fills its word. Raises ValueError for one that does not fit."""
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
