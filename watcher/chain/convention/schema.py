"""The schema of a convention file: the tables and keys that describe a task manager, and the loading of such a file.

Presets are such files in `presets/`; a user's own file has the same keys. `docs/conventions.md` explains every key.
"""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from watcher import validation
from watcher.chain.convention.expression import IndexSource, Values, must_be_packable
from watcher.chain.convention.table import NAME, Address, Constant, Line, Table, Type, Types
from watcher.chain.convention.view_schema import IndexedView, PlainView, ViewSchema
from watcher.errors import FixConfiguration
from watcher.files import is_too_deep, preset_names, read_text
from watcher.files import parse as parse_json

PRESETS = preset_names()
SENDER_VIEW = "aggregator()"
_FILE_LIMIT_BYTES = 256 * 1024
# A compiler's artifact holds code and ABI.
_ABI_LIMIT_BYTES = 4 * 1024 * 1024
_NEEDED = 'leave it out only with operator.api = "none", where nothing is sent'
_PERCENT = 100
# The last argument of most response functions: NonSignerStakesAndSignature of EigenLayer's BLSSignatureChecker.
NON_SIGNERS = (
    "(uint32[],(uint256,uint256)[],(uint256,uint256)[],(uint256[2],uint256[2]),(uint256,uint256),"
    "uint32[],uint32[],uint32[][])"
)
_PATH_LIMIT_CHARS = 300


def _quorums(value: Any) -> Any:
    if isinstance(value, list) and len(value) != len(set(value)):
        raise ValueError("names a quorum twice")
    return value


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


def _refuse_hash_of_flag(hash_paths: list[str], view: ViewSchema | None) -> None:
    if hash_paths and view is not None and view.is_flag:
        raise ValueError("hash_view holds a hash, or is compared with equals or not_equals: leave hash or those out")


class TaskSchema(Table):
    """[task]: the event that creates a task, and the places of its values; the views of task hash and count."""

    event: Line
    index: IndexSource
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
    def _provable(self) -> "TaskSchema":
        is_flag = self.hash_view is not None and self.hash_view.is_flag
        if not is_flag and (self.hash_view is None) != (not self.hash):
            raise ValueError(
                "hash and hash_view belong together: the view holds the hash of those values; a view that only shows"
                " whether the task exists needs equals or not_equals"
            )
        _refuse_hash_of_flag(self.hash, self.hash_view)
        return self

    @model_validator(mode="after")
    def _within_scale(self) -> "TaskSchema":
        if isinstance(self.quorum_threshold, int) and self.quorum_threshold > self.threshold_scale:
            raise ValueError(f"quorum_threshold: must be a path, or a number from 0 to {self.threshold_scale}")
        return self

    @model_validator(mode="after")
    def _countable(self) -> "TaskSchema":
        if self.only and self.count_view is not None and not self.count_view.arguments:
            raise ValueError("count_view also counts the tasks that only excludes: leave count_view out")
        if not isinstance(self.index, str) and self.count_view is not None:
            raise ValueError("an index that is a hash does not count up: leave count_view out")
        if self.count_view is None and self.model_fields_set & {"count_is", "first_index"}:
            raise ValueError("count_is and first_index describe count_view: give count_view, or leave them out")
        return self


class Deadline(Table):
    """[deadline]: the last block or second in which an answer is admissible; `inclusive` false: the first too late.

    An empty table: no answer is too late.
    """

    window_view: PlainView | None = None
    window_blocks: Block | None = None
    block: Line | None = None
    timestamp: Line | None = None
    inclusive: bool = True

    @model_validator(mode="after")
    def _single_key(self) -> "Deadline":
        keys = (self.window_view, self.window_blocks, self.block, self.timestamp)
        if sum(value is not None for value in keys) > 1:
            raise ValueError("give one of window_view, window_blocks, block, timestamp")
        return self


class ResponseSchema(Table):
    """[response]: the event that shows an answer. `address`: the contract that emits it, if not the task manager."""

    event: Line
    index: IndexSource
    answer: Line | Paths = Field(description="a path, or a list of paths")
    hash: Paths = Field(default_factory=list)
    hash_view: IndexedView | None = None
    only: Filter = Field(default_factory=dict)
    address: Address | None = None

    @model_validator(mode="after")
    def _has_view(self) -> "ResponseSchema":
        if self.hash and self.hash_view is None:
            raise ValueError("hash describes the content of hash_view: give hash_view, or leave hash out")
        _refuse_hash_of_flag(self.hash, self.hash_view)
        return self


class CallSchema(Table):
    """[call]: the function that takes answers, and its caller. `address`: its contract, if not the task manager.

    `types` and `values` are its arguments without the signature, which the aggregator adds. The signature has the type
    `signature_type` ("" for none) and the position `signature_at` among all arguments, from 0; left out, the last.
    """

    method: Name
    signature_type: Type | Literal[""] = Field(default=NON_SIGNERS, description='an ABI type, or "" for none')
    signature_at: Annotated[int, Field(ge=0, le=16)] | None = None
    address: Address | None = None
    sender_view: PlainView = ViewSchema(view=SENDER_VIEW)
    types: Types
    values: Values

    @model_validator(mode="after")
    def _has_place(self) -> "CallSchema":
        if self.signature_at is not None and (self.signature_at > len(self.types) or not self.signature_type):
            raise ValueError(f"signature_at: must be 0 to {len(self.types)}, and there must be a signature_type")
        return self


class Signed(Table):
    """[signed]: the digest that operators sign: keccak256 of abi.encode(values), or, with `raw`, one bytes32 value.

    `packed`: of abi.encodePacked, without arrays, whose items eth-abi packs closer than Solidity does.
    """

    types: Types
    values: Values
    raw: bool = False
    packed: bool = False

    @model_validator(mode="after")
    def _one_word(self) -> "Signed":
        if self.raw and self.types != ["bytes32"]:
            raise ValueError('raw signs one value as it is: types must be ["bytes32"]')
        must_be_packable(tuple(self.types), packed=self.packed)
        return self


class ObservedSchema(Table):
    """A convention file for a daemon that sends nothing: [call] and [signed] are optional."""

    description: str = Field(default="", max_length=2000)
    abi: Line | Annotated[list[Line], Field(min_length=1, max_length=4)] | None = Field(
        default=None, description="a path, or a list of up to four paths"
    )
    answer: Type = "bytes"
    task: TaskSchema
    deadline: Deadline = Deadline()
    response: ResponseSchema | None = None
    call: CallSchema | None = None
    signed: Signed | None = None


class Schema(ObservedSchema):
    """A convention file for a daemon that sends answers."""

    call: CallSchema = Field(description=_NEEDED)
    signed: Signed = Field(description=_NEEDED)


def load_schema(name: str, file: Path | None = None, *, answers: bool = True) -> tuple[ObservedSchema, list[Any]]:
    """Return a convention file as a schema, and the ABI it names (empty where it names none).

    Args:
        name: a preset, or "custom".
        file: the file for "custom".
        answers: answers are sent, so that [call] and [signed] are required.

    Raises:
        FixConfiguration: the file cannot be read or is wrong; with every problem in it.
    """
    model = Schema if answers else ObservedSchema
    if name == "custom":
        if file is None:
            raise FixConfiguration('task_manager.convention_file: is required for task_manager.convention = "custom"')
        text, label = _read(file, _FILE_LIMIT_BYTES), validation.brief(str(file), _PATH_LIMIT_CHARS)
    elif name in PRESETS:
        text, label = files(__package__).joinpath("presets", f"{name}.toml").read_text(encoding="utf-8"), name
    else:
        raise FixConfiguration(f'task_manager.convention: must be one of {", ".join(PRESETS)}, or "custom"')
    try:
        schema = model.model_validate(_tables(text))
    except ValidationError as error:
        raise FixConfiguration(f"{label}: {validation.problems(error, model)}") from None
    except FixConfiguration as error:
        raise FixConfiguration(f"{label}: {error}") from None
    return schema, _abi(schema, file) if schema.abi else []


def _tables(text: str) -> dict[str, Any]:
    if is_too_deep(text.encode()):
        raise FixConfiguration("is nested too deeply")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FixConfiguration(f"not TOML: {validation.brief(str(error))}") from None
    except RecursionError:
        raise FixConfiguration("is nested too deeply") from None
    except ValueError:  # a number with more digits than Python converts
        raise FixConfiguration("holds a number that is far too long") from None


def _abi(schema: ObservedSchema, file: Path | None) -> list[Any]:
    paths = schema.abi if isinstance(schema.abi, list) else [schema.abi or ""]
    return [entry for path in paths for entry in _abi_in(Path(path), file)]


def _abi_in(path: Path, file: Path | None) -> list[Any]:
    path = path if path.is_absolute() or file is None else file.parent / path
    label = validation.brief(str(path), _PATH_LIMIT_CHARS)
    try:
        document = parse_json(_read(path, _ABI_LIMIT_BYTES).encode())
    except ValueError:
        raise FixConfiguration(f"{label}: abi must name a JSON file") from None
    abi = document.get("abi") if isinstance(document, dict) else document
    if not isinstance(abi, list):
        raise FixConfiguration(f"{label}: neither an ABI nor a compiler's artifact with one")
    return abi


def _read(path: Path, limit_bytes: int) -> str:
    try:
        return read_text(path, limit_bytes)
    except FixConfiguration as error:
        raise FixConfiguration(f"{validation.brief(str(path), _PATH_LIMIT_CHARS)}: {error}") from None
