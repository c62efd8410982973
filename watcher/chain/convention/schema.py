"""What a convention file says: the shape of a task manager as data.

Presets are such files in `presets/`; a file of one's own is no different. `docs/conventions.md` explains every key.
"""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from watcher import validation
from watcher.chain.convention.constant import Constant
from watcher.chain.convention.expression import Naming, Values, must_be_packable
from watcher.chain.convention.table import NAME, Address, Line, Table, Type, Types
from watcher.chain.convention.view_shape import IndexedView, PlainView, ViewShape
from watcher.errors import FixConfiguration
from watcher.files import is_too_deep, preset_names, read_text
from watcher.files import parse as parse_json

PRESETS = preset_names()
SENDER_VIEW = "aggregator()"
_FILE_LIMIT_BYTES = 256 * 1024
# A compiler's artifact holds the code beside the ABI.
_ABI_LIMIT_BYTES = 4 * 1024 * 1024
_NEEDED = 'only with operator.api = "none", where nothing is sent, may it be left out'
_PERCENT = 100
# The last argument of most response functions: NonSignerStakesAndSignature of EigenLayer's BLSSignatureChecker.
NON_SIGNERS = (
    "(uint32[],(uint256,uint256)[],(uint256,uint256)[],(uint256[2],uint256[2]),(uint256,uint256),"
    "uint32[],uint32[],uint32[][])"
)
_PATH_LIMIT_CHARS = 300


def _quorums(given: Any) -> Any:
    if isinstance(given, list) and len(given) != len(set(given)):
        raise ValueError("names a quorum twice")
    return given


Name = Annotated[str, Field(pattern=f"^{NAME}$", max_length=200, description="a function's name, without brackets")]
Paths = Annotated[list[Line], Field(max_length=16)]
Choices = Annotated[Constant | list[Constant], Field(description="a value, or a list of values")]
Filter = Annotated[
    dict[Line, Choices],
    Field(max_length=8, description='a table of paths and the values they must hold: {avs = "0x…"}'),
]
Start = Annotated[int, Field(ge=0, le=2**64)]
Quorum = Annotated[int, Field(ge=0, le=255)]
Block = Annotated[int, Field(ge=1, le=2**32)]


class Coded(Table):
    """Bytes put together: abi.encode of `values` as `types`."""

    types: Types
    values: Values


def _hash_or_yes(hashed: list[str], view: ViewShape | None) -> None:
    if hashed and view is not None and view.says_yes_or_no:
        raise ValueError("hash_view holds a hash, or is compared with equals or not_equals: leave hash or those out")


class TaskShape(Table):
    """The event that creates a task, and where to find what in it."""

    event: Line
    index: Naming
    created_block: Line | None = None
    reference_block: Line | None = None
    message: Line | None = None
    quorum_numbers: Annotated[Line | list[Quorum], AfterValidator(_quorums)] = Field(
        default_factory=list, description="a path, or numbers from 0 to 255"
    )
    quorum_threshold: Line | Annotated[int, Field(ge=0)] = Field(
        default=0, description="a path, or a number from 0 to 100, or to threshold_scale"
    )
    threshold_scale: Annotated[int, Field(ge=1, le=2**64)] = _PERCENT
    hash: Paths = Field(default_factory=list)
    hash_view: IndexedView | None = None
    count_view: PlainView | None = None
    count_is: Literal["next", "count"] = Field(default="next", description='"next" or "count"')
    first_index: Start = 0
    only: Filter = Field(default_factory=dict)

    @model_validator(mode="after")
    def _provable(self) -> "TaskShape":
        is_known = self.hash_view is not None and self.hash_view.says_yes_or_no
        if not is_known and (self.hash_view is None) != (not self.hash):
            raise ValueError(
                "hash and hash_view belong together: what the view holds is the hash of that; a view that says whether"
                " there is such a task needs equals or not_equals"
            )
        _hash_or_yes(self.hash, self.hash_view)
        return self

    @model_validator(mode="after")
    def _within_scale(self) -> "TaskShape":
        if isinstance(self.quorum_threshold, int) and self.quorum_threshold > self.threshold_scale:
            raise ValueError(f"quorum_threshold: must be a path, or a number from 0 to {self.threshold_scale}")
        return self

    @model_validator(mode="after")
    def _countable(self) -> "TaskShape":
        if self.only and self.count_view is not None and not self.count_view.arguments:
            raise ValueError("count_view counts the tasks of others too, which only leaves out: leave count_view out")
        if not isinstance(self.index, str) and self.count_view is not None:
            raise ValueError("an index that is a hash does not count up: leave count_view out")
        if self.count_view is None and self.model_fields_set & {"count_is", "first_index"}:
            raise ValueError("count_is and first_index say how count_view counts: give count_view, or leave them out")
        return self


class Deadline(Table):
    """The last block or second an answer is admissible in; `inclusive` false: the first one it is not.

    Nothing at all: an answer is never too late.
    """

    window_view: PlainView | None = None
    window_blocks: Block | None = None
    block: Line | None = None
    timestamp: Line | None = None
    inclusive: bool = True

    @model_validator(mode="after")
    def _one(self) -> "Deadline":
        if sum(one is not None for one in (self.window_view, self.window_blocks, self.block, self.timestamp)) > 1:
            raise ValueError("give one of window_view, window_blocks, block, timestamp")
        return self


class ResponseShape(Table):
    """The event that shows an answer. `address`: the contract that emits it, where that is another one."""

    event: Line
    index: Naming
    answer: Line | Paths = Field(description="a path, or a list of paths")
    hash: Paths = Field(default_factory=list)
    hash_view: IndexedView | None = None
    only: Filter = Field(default_factory=dict)
    address: Address | None = None

    @model_validator(mode="after")
    def _has_view(self) -> "ResponseShape":
        if self.hash and self.hash_view is None:
            raise ValueError("hash says what hash_view holds: give hash_view, or leave hash out")
        _hash_or_yes(self.hash, self.hash_view)
        return self


class CallShape(Table):
    """The function that takes the answer, and who may call it. `address`: the contract it is of, if another one.

    `types` and `values` are its arguments without the signature's, which the aggregator adds. That one is of
    `signature_type` ("" for a function without one), at `signature_at` among all arguments, from 0; last if left out.
    """

    method: Name
    signature_type: Type | Literal[""] = Field(default=NON_SIGNERS, description='an ABI type, or "" for none')
    signature_at: Annotated[int, Field(ge=0, le=16)] | None = None
    address: Address | None = None
    sender_view: PlainView = ViewShape(view=SENDER_VIEW)
    types: Types
    values: Values

    @model_validator(mode="after")
    def _has_place(self) -> "CallShape":
        if self.signature_at is not None and (self.signature_at > len(self.types) or not self.signature_type):
            raise ValueError(f"signature_at: must be 0 to {len(self.types)}, and there must be a signature_type")
        return self


class Signed(Coded):
    """What the operators sign: keccak256 of the bytes, or, with `raw`, the one bytes32 value itself.

    `packed`: of abi.encodePacked. eth-abi packs the items of arrays closer than Solidity does, so that none are taken.
    """

    raw: bool = False
    packed: bool = False

    @model_validator(mode="after")
    def _one_word(self) -> "Signed":
        if self.raw and self.types != ["bytes32"]:
            raise ValueError('raw signs one value as it is: types must be ["bytes32"]')
        must_be_packable(tuple(self.types), packed=self.packed)
        return self


class ObservedShape(Table):
    """A whole convention file of which nothing is sent: [call] and [signed] may be left out."""

    description: str = Field(default="", max_length=2000)
    abi: Line | Annotated[list[Line], Field(min_length=1, max_length=4)] | None = Field(
        default=None, description="a path, or a list of up to four paths"
    )
    answer: Type = "bytes"
    task: TaskShape
    deadline: Deadline = Deadline()
    response: ResponseShape | None = None
    call: CallShape | None = None
    signed: Signed | None = None


class Shape(ObservedShape):
    """A whole convention file."""

    call: CallShape = Field(description=_NEEDED)
    signed: Signed = Field(description=_NEEDED)


def load_shape(name: str, file: Path | None = None, *, answers: bool = True) -> tuple[ObservedShape, list[Any]]:
    """The shape called `name`, or the one in `file` for "custom", and the ABI it refers to, if any.

    `answers`: answers are sent, so that [call] and [signed] are required.

    Raises FixConfiguration with every problem found.
    """
    model = Shape if answers else ObservedShape
    if name == "custom":
        if file is None:
            raise FixConfiguration('task_manager.convention_file: is required for task_manager.convention = "custom"')
        text, label = _read(file, _FILE_LIMIT_BYTES), validation.brief(str(file), _PATH_LIMIT_CHARS)
    elif name in PRESETS:
        text, label = files(__package__).joinpath("presets", f"{name}.toml").read_text(encoding="utf-8"), name
    else:
        raise FixConfiguration(f'task_manager.convention: must be one of {", ".join(PRESETS)}, or "custom"')
    try:
        shape = model.model_validate(_tables(text))
    except ValidationError as error:
        raise FixConfiguration(f"{label}: {validation.told(error, model)}") from None
    except FixConfiguration as wrong:
        raise FixConfiguration(f"{label}: {wrong}") from None
    return shape, _abi(shape, file) if shape.abi else []


def _tables(text: str) -> dict[str, Any]:
    if is_too_deep(text.encode()):
        raise FixConfiguration("is nested too deeply")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FixConfiguration(f"not TOML: {validation.brief(str(error))}") from None
    except RecursionError:
        raise FixConfiguration("is nested too deeply") from None
    except ValueError:  # a number of more digits than Python converts
        raise FixConfiguration("holds a number that is far too long") from None


def _abi(shape: ObservedShape, file: Path | None) -> list[Any]:
    named = shape.abi if isinstance(shape.abi, list) else [shape.abi or ""]
    return [entry for one in named for entry in _abi_in(Path(one), file)]


def _abi_in(path: Path, file: Path | None) -> list[Any]:
    path = path if path.is_absolute() or file is None else file.parent / path
    try:
        found = parse_json(_read(path, _ABI_LIMIT_BYTES).encode())
    except ValueError:
        raise FixConfiguration(f"{validation.brief(str(path), _PATH_LIMIT_CHARS)}: abi must name a JSON file") from None
    abi = found.get("abi") if isinstance(found, dict) else found
    if not isinstance(abi, list):
        raise FixConfiguration(
            f"{validation.brief(str(path), _PATH_LIMIT_CHARS)}: neither an ABI nor a compiler's artifact with one"
        )
    return abi


def _read(path: Path, limit_bytes: int) -> str:
    try:
        return read_text(path, limit_bytes)
    except FixConfiguration as wrong:
        raise FixConfiguration(f"{validation.brief(str(path), _PATH_LIMIT_CHARS)}: {wrong}") from None
