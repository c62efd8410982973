"""The table [hook]: the code that answers, and its limits."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from watcher.settings import checks, targets
from watcher.settings.section import MIB, Count, Seconds, Section


class Shadow(Section):
    """Another hook, which runs on each task after the live one and sends nothing; its answers are compared."""

    target: Annotated[str, AfterValidator(targets.hook_target)] = Field(
        default="",
        max_length=4096,
        repr=False,
        description="The shadow, in the forms of hook.target. Empty: there is none.",
    )
    app_dir: Annotated[str, AfterValidator(checks.folder_or_none)] = Field(
        default="", description='Folder of the shadow\'s module; "" takes hook.app_dir.'
    )
    timeout_s: Seconds = Field(
        default=30.0, le=86_400, description="Time for one answer; a worker that takes longer is killed."
    )
    workers: int = Field(default=1, ge=1, le=64, description="Worker processes of the shadow, at the lowest priority.")
    memory_mb: int = Field(
        default=1024,
        ge=0,
        le=1 << 24,
        description="Memory each process of a worker may allocate, in MiB; a run that needs more fails. 0: no limit.",
    )


class Hook(Section):
    """Your code, which computes the answers."""

    target: Annotated[str, AfterValidator(targets.hook_target)] = Field(
        default="",
        max_length=4096,
        repr=False,
        examples=["squaring:respond"],
        description="Answers a task: module:attribute, exec:PROGRAM ARGS, http(s) URLs or grpc://HOST:PORT. "
        "Required to answer.",
    )
    app_dir: Annotated[str, AfterValidator(checks.folder)] = Field(
        default=".",
        description="Folder of the hook's module, current folder of its program; relative to the working directory.",
    )
    message: Annotated[str, AfterValidator(checks.value_type)] = Field(
        default="",
        max_length=4096,
        examples=["(uint256 number, address owner)"],
        description="ABI types of a task's message: the hook gets its values. Empty: it gets bytes.",
    )
    response: Annotated[str, AfterValidator(checks.value_type)] = Field(
        default="",
        max_length=4096,
        examples=["(uint256)"],
        description="ABI types of an answer: the hook returns values of them. Empty: it returns bytes.",
    )
    timeout_s: Seconds = Field(
        default=30.0, le=86_400, description="Time for one answer; a worker that takes longer is killed."
    )
    workers: int = Field(
        default=2, ge=1, le=64, description="Worker processes that run the hook, or requests to its service at a time."
    )
    process_limit: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="The most workers that run at the same time over all AVSs of one process; of several limits the "
        "lowest counts. 0: no limit but the workers of each.",
    )
    run_twice: bool = Field(
        default=False,
        description="Run each task twice, in two processes, and fail an attempt whose answers differ. An answer that "
        "depends on earlier tasks differs soon, not at each task: two workers may have run equally many.",
    )
    max_attempts: int = Field(default=5, ge=1, le=1000, description="Runs that may fail before the task is given up.")
    retry_base_s: Seconds = Field(default=1.0, le=3600, description="Wait before the second run; doubled each time.")
    answer_limit_bytes: int = Field(
        default=1 * MIB, ge=1, le=64 * MIB, description="The longest answer taken from the hook."
    )
    tasks_per_worker: Count = Field(
        default=1000,
        description="Tasks after which a worker is replaced, against leaks in the hook; 0 never replaces it.",
    )
    memory_mb: int = Field(
        default=0,
        ge=0,
        le=1 << 24,
        description="Memory each process of a worker may allocate, in MiB; a run that needs more fails. 0: no limit.",
    )
    landlock: Literal["auto", "off", "required"] = Field(
        default="auto",
        description="Keep the hook from credentials, configuration and ledger: where the kernel can, never, or always: "
        "then nothing starts where it cannot.",
    )
    shadow: Shadow = Field(default={}, validate_default=True)
