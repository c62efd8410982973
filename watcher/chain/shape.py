"""What a convention file says: the shape of a task manager as data.

Presets are such files in `conventions/`; a file of one's own is no different. `docs/conventions.md` explains every key.
"""

import json
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from watcher.chain.recipe import Expression
from watcher.errors import FixConfiguration

PRESETS = ("wizard", "wizard-bridge", "incredible-squaring", "chainbase")
_FILE_LIMIT_BYTES = 4 * 1024 * 1024

Line = Annotated[str, Field(min_length=1, max_length=4096)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_$][A-Za-z0-9_$]*$", max_length=200)]
ViewName = Annotated[str, Field(pattern=r"^[A-Za-z_$][A-Za-z0-9_$]*\((u?int\d*|bytes32)?\)$", max_length=200)]
Block = Annotated[int, Field(ge=1, le=2**32)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Coded(_Table):
    """Bytes put together: abi.encode of `values` as `types`."""

    types: list[Line] = Field(min_length=1, max_length=16)
    values: list[Expression] = Field(min_length=1, max_length=16)


class TaskShape(_Table):
    """The event that creates a task, and where to find what in it."""

    event: Line
    index: Line
    created_block: Line | None = None
    message: Line | None = None
    quorum_numbers: Line | list[Annotated[int, Field(ge=0, le=255)]] = Field(default_factory=list)
    quorum_threshold: Line | Annotated[int, Field(ge=0, le=100)] = 0
    hash: list[Line] = Field(default_factory=list, max_length=16)
    hash_view: ViewName | None = None
    count_view: ViewName | None = None

    @model_validator(mode="after")
    def _provable(self) -> "TaskShape":
        if (self.hash_view is None) != (not self.hash):
            raise ValueError("hash and hash_view belong together: what the view holds is the hash of that")
        return self


class Deadline(_Table):
    """Until when an answer is admissible; nothing at all means for ever."""

    window_view: ViewName | None = None
    window_blocks: Block | None = None
    block: Line | None = None
    timestamp: Line | None = None

    @model_validator(mode="after")
    def _one(self) -> "Deadline":
        if sum(one is not None for one in (self.window_view, self.window_blocks, self.block, self.timestamp)) > 1:
            raise ValueError("give one of window_view, window_blocks, block, timestamp")
        return self


class ResponseShape(_Table):
    """The event that shows an answer."""

    event: Line
    index: Line
    answer: Line | list[Line]
    hash: list[Line] = Field(default_factory=list, max_length=16)
    hash_view: ViewName | None = None

    @model_validator(mode="after")
    def _has_view(self) -> "ResponseShape":
        if self.hash and self.hash_view is None:
            raise ValueError("hash says what hash_view holds: give hash_view, or leave hash out")
        return self


class CallShape(_Table):
    """The function that takes the answer, without its last argument and without its selector."""

    method: Name
    types: list[Line] = Field(min_length=1, max_length=16)
    values: list[Expression] = Field(min_length=1, max_length=16)


class Signed(Coded):
    """What the operators sign: keccak256 of the bytes, or, with `raw`, the one bytes32 value itself."""

    raw: bool = False

    @model_validator(mode="after")
    def _one_word(self) -> "Signed":
        if self.raw and self.types != ["bytes32"]:
            raise ValueError('raw signs one value as it is: types must be ["bytes32"]')
        return self


class Shape(_Table):
    """A whole convention file."""

    description: str = Field(default="", max_length=2000)
    abi: Line | None = None
    answer: Line = "bytes"
    task: TaskShape
    deadline: Deadline = Deadline()
    response: ResponseShape | None = None
    call: CallShape
    signed: Signed

    @field_validator("answer")
    @classmethod
    def _plain(cls, value: str) -> str:
        return value.strip()


def load_shape(name: str, file: Path | None = None) -> tuple[Shape, list[Any]]:
    """The shape called `name`, or the one in `file` for "custom", and the ABI it refers to, if any.

    Raises FixConfiguration with every problem found.
    """
    if name == "custom":
        if file is None:
            raise FixConfiguration('task_manager.convention_file: is required for task_manager.convention = "custom"')
        text, label = _read(file), str(file)
    elif name in PRESETS:
        text, label = files(__package__).joinpath("conventions", f"{name}.toml").read_text(encoding="utf-8"), name
    else:
        raise FixConfiguration(f'task_manager.convention: must be one of {", ".join(PRESETS)}, or "custom"')
    try:
        shape = Shape.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise FixConfiguration(f"{label}: not TOML: {error}") from None
    except ValidationError as error:
        raise FixConfiguration(f"{label}: " + "; ".join(_problem(one) for one in error.errors())) from None
    return shape, _abi(shape, file) if shape.abi else []


def _problem(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"] if not str(part).startswith(("str", "list", "int", "constr")))
    return f"{where or 'the file'}: {error['msg'].removeprefix('Value error, ')}"


def _abi(shape: Shape, file: Path | None) -> list[Any]:
    path = Path(shape.abi or "")
    path = path if path.is_absolute() or file is None else file.parent / path
    try:
        found = json.loads(_read(path))
    except (ValueError, RecursionError):
        raise FixConfiguration(f"{path}: abi must name a JSON file") from None
    abi = found.get("abi") if isinstance(found, dict) else found
    if not isinstance(abi, list):
        raise FixConfiguration(f"{path}: neither an ABI nor a compiler's artifact with one")
    return abi


def _read(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            data = opened.read(_FILE_LIMIT_BYTES + 1)
        if len(data) > _FILE_LIMIT_BYTES:
            raise FixConfiguration(f"{path}: longer than {_FILE_LIMIT_BYTES >> 20} MiB")
        return data.decode("utf-8")
    except OSError as error:
        raise FixConfiguration(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FixConfiguration(f"{path}: not UTF-8 text") from None
