"""The wizard convention with nothing optional about it, and its hashes written apart from the program's own."""

from typing import TypeVar

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from watcher.chain.convention.convention import convention

T = TypeVar("T")


def present(value: T | None) -> T:
    assert value is not None, "the wizard convention has it"
    return value


WIZARD = convention("wizard")
CREATED_TOPIC = WIZARD.created_topic
RESPONDED_TOPIC = present(WIZARD.responded_topic)
LATEST_TASK_NUM = present(WIZARD.latest_task_num)
ALL_TASK_HASHES = present(WIZARD.all_task_hashes)
ALL_TASK_RESPONSES = present(WIZARD.all_task_responses)
RESPONSE_WINDOW = present(WIZARD.response_window)
TOPICS0 = (CREATED_TOPIC, RESPONDED_TOPIC)


def index_topic(task_index: int) -> bytes:
    return present(WIZARD.index_topic(task_index))


def task_hash(created_block: int, threshold: int, message: bytes, quorum_numbers: bytes) -> bytes:
    return keccak(encode(["(uint32,uint32,bytes,bytes)"], [(created_block, threshold, message, quorum_numbers)]))


def sig_hash(task_index: int, answer: bytes) -> bytes:
    return keccak(encode(["(uint32,bytes)"], [(task_index, answer)]))
