"""What each fault of a node does to the answers of a batch. Each twist changes the answers in place and says whether it
changed any, so that only faults that really happened are counted."""

import copy
import hashlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

from eth_abi.abi import encode

from tests.torture.rpc_faults import RpcFault, RpcFaultKind, Twist
from watcher.devnet.contract import METADATA, NEW_TASK_CREATED, RESPONSE, TASK, TASK_RESPONDED, decode_response

Item = dict[str, Any]
CREATED, RESPONDED = "0x" + NEW_TASK_CREATED.hex(), "0x" + TASK_RESPONDED.hex()
FAR_AHEAD = 1_000_000
ZERO_WORD = "0x" + "00" * 32
# What nodes say of a transaction while they build its index, without one, or while it is not mined.
RECEIPT_REFUSALS: tuple[Item, ...] = (
    {"error": {"code": -32000, "message": "transaction indexing is in progress"}},
    {"error": {"code": -32601, "message": "the method eth_getTransactionReceipt does not exist/is not available"}},
    {"result": {"blockHash": None, "blockNumber": None, "transactionIndex": "0x0", "logs": []}},
)


def answered(asked: list[Item], answers: list[Item], method: str) -> Iterator[tuple[Item, Item]]:
    """The pairs of request and answer of one method, as far as they hold a result."""
    yield from (pair for pair in _pairs(asked, answers, method) if pair[1].get("result") is not None)


def _pairs(asked: list[Item], answers: list[Item], method: str) -> Iterator[tuple[Item, Item]]:
    by_id = {reply.get("id"): reply for reply in answers}
    for request in asked:
        answer = by_id.get(request.get("id"))
        if request.get("method") == method and answer is not None:
            yield request, answer


def task_index(log: Item) -> int | None:
    """Of which task a log of the task manager speaks."""
    if log["topics"][0] == CREATED:
        return int(log["topics"][1], 16)
    if log["topics"][0] == RESPONDED:
        return decode_response(bytes.fromhex(log["data"][2:]))[0]
    return None


def _logs(change: Any) -> Twist:
    """A twist of the list of logs: `change(fault, chance, request, logs)` returns the new list."""

    def twist(fault: RpcFault, chance: random.Random, asked: list[Item], answers: list[Item]) -> bool:
        changed = False
        for request, answer in answered(asked, answers, "eth_getLogs"):
            logs = change(fault, chance, request, list(answer["result"]))
            changed |= logs != answer["result"]
            answer["result"] = logs
        return changed

    return twist


def _dropped(fault: RpcFault, chance: random.Random, request: Item, logs: list[Item]) -> list[Item]:
    return [log for log in logs if chance.random() >= fault.fraction]


def _hidden(fault: RpcFault, chance: random.Random, request: Item, logs: list[Item]) -> list[Item]:
    return [log for log in logs if task_index(log) != fault.index]


def _cut(fault: RpcFault, chance: random.Random, request: Item, logs: list[Item]) -> list[Item]:
    return logs[: chance.randrange(len(logs))] if logs else logs


def _doubled(fault: RpcFault, chance: random.Random, request: Item, logs: list[Item]) -> list[Item]:
    return [log for log in logs for _ in range(chance.choice((1, 2, 3)))]


def _flooded(fault: RpcFault, chance: random.Random, request: Item, logs: list[Item]) -> list[Item]:
    if not logs:
        return logs
    log = chance.choice(logs)
    return [*logs, *(log | {"logIndex": hex(10_000 + number), "data": "0xff"} for number in range(500))]


def _beside(change: Any) -> Twist:
    """One more log beside the true ones: a copy of one of them, changed."""

    def add(fault: RpcFault, chance: random.Random, request: Item, logs: list[Item]) -> list[Item]:
        if not logs:
            return logs
        extra = copy.deepcopy(chance.choice(logs))
        extra["logIndex"] = hex(int(extra["logIndex"], 16) + 5000)
        change(chance, request, extra)
        return [*logs, extra]

    return _logs(add)


def _wrong_address(chance: random.Random, request: Item, log: Item) -> None:
    log["address"] = "0x" + chance.randbytes(20).hex()


def _wrong_topic(chance: random.Random, request: Item, log: Item) -> None:
    log["topics"] = ["0x" + chance.randbytes(32).hex(), *log["topics"][1:]]


def _out_of_range(chance: random.Random, request: Item, log: Item) -> None:
    span = request["params"][0]
    first, last = int(span["fromBlock"], 16), int(span["toBlock"], 16)
    log["blockNumber"] = hex(chance.choice((max(0, first - 1 - chance.randrange(5)), last + 1 + chance.randrange(5))))


def _forged(chance: random.Random, request: Item, log: Item) -> None:
    """A task nobody made, at an index that exists or one far ahead; or a response nobody gave."""
    message, known = chance.randbytes(32), task_index(log)
    created_block = int(log["blockNumber"], 16)
    index = known if known is not None and chance.random() < 0.5 else FAR_AHEAD + chance.randrange(10**6)
    if log["topics"][0] == CREATED:
        log["topics"] = [CREATED, "0x" + index.to_bytes(32, "big").hex()]
        log["data"] = "0x" + encode([TASK], [(created_block, 66, message, b"\x00")]).hex()
    else:
        metadata = (created_block, chance.randbytes(32))
        log["data"] = "0x" + encode([RESPONSE, METADATA], [(index, message), metadata]).hex()


def _block(change: Any) -> Twist:
    """A twist of one block of a batch."""

    def twist(fault: RpcFault, chance: random.Random, asked: list[Item], answers: list[Item]) -> bool:
        replies = list(answered(asked, answers, "eth_getBlockByNumber"))
        if not replies:
            return False
        _, answer = chance.choice(replies)
        answer["result"] = change(chance, answer["result"])
        return True

    return twist


def _chain_id(fault: RpcFault, chance: random.Random, asked: list[Item], answers: list[Item]) -> bool:
    changed = False
    for _, answer in answered(asked, answers, "eth_chainId"):
        answer["result"], changed = chance.choice(("0x1", "0x5", "0xaa36a7")), True
    return changed


def _far_head(fault: RpcFault, chance: random.Random, asked: list[Item], answers: list[Item]) -> bool:
    heads = [
        reply for request, reply in answered(asked, answers, "eth_getBlockByNumber") if request["params"][0] == "latest"
    ]
    for answer in heads:
        far = int(answer["result"]["number"], 16) + chance.choice((7, 5_000, 10**6, 10**9))
        answer["result"] = answer["result"] | {"number": hex(far)}
    return bool(heads)


def _own(number: int) -> str:
    """The hash of a block that this node alone has."""
    return "0x" + hashlib.sha256(f"own {number}".encode()).hexdigest()


def _forked(fault: RpcFault, chance: random.Random, asked: list[Item], answers: list[Item]) -> bool:
    """The newest block is one higher and its own; asked by number for a block that is not there, it has one, too."""
    changed = False
    for request, answer in _pairs(asked, answers, "eth_getBlockByNumber"):
        which, block = request["params"][0], answer.get("result")
        if which == "latest" and block is not None:
            number = int(block["number"], 16) + 1
            answer["result"] = block | {"number": hex(number), "hash": _own(number), "parentHash": block["hash"]}
            changed = True
        elif block is None and "error" not in answer and str(which).startswith("0x"):
            number = int(which, 16)
            answer["result"] = {"number": which, "hash": _own(number), "parentHash": _own(number - 1)}
            changed = True
    return changed


def early_finality(asked: list[Item]) -> list[Item]:
    """The questions, with the newest block where the final one is asked for."""
    return [
        request | {"params": ["latest", *request["params"][1:]]}
        if request.get("params", [None])[:1] == ["finalized"]
        else request
        for request in asked
    ]


def _receipts_refused(fault: RpcFault, chance: random.Random, asked: list[Item], answers: list[Item]) -> bool:
    changed = False
    for request, answer in _pairs(asked, answers, "eth_getTransactionReceipt"):
        refusal = copy.deepcopy(chance.choice(RECEIPT_REFUSALS))
        if "result" in refusal:
            refusal["result"]["transactionHash"] = request["params"][0]
        answer.pop("result", None)
        answer.pop("error", None)
        answer.update(refusal)
        changed = True
    # The daemon asks for few receipts, and for code and storage of the contract at each start and each minute.
    for method in ("eth_getCode", "eth_getStorageAt"):
        for _, answer in _pairs(asked, answers, method):
            answer.pop("result", None)
            answer["error"] = {"code": -32601, "message": f"the method {method} does not exist/is not available"}
            changed = True
    return changed


def _stale_call(fault: RpcFault, chance: random.Random, asked: list[Item], answers: list[Item]) -> bool:
    replies = [reply for _, reply in answered(asked, answers, "eth_call") if reply["result"] != ZERO_WORD]
    for answer in replies:
        answer["result"] = ZERO_WORD
    return bool(replies)


TWISTS: Mapping[RpcFaultKind, Twist] = {
    RpcFaultKind.LOGS_DROPPED: _logs(_dropped),
    RpcFaultKind.LOG_HIDDEN: _logs(_hidden),
    RpcFaultKind.LOGS_CUT: _logs(_cut),
    RpcFaultKind.LOGS_DOUBLED: _logs(_doubled),
    RpcFaultKind.LOGS_FORGED: _beside(_forged),
    RpcFaultKind.LOGS_FLOODED: _logs(_flooded),
    RpcFaultKind.LOGS_WRONG_ADDRESS: _beside(_wrong_address),
    RpcFaultKind.LOGS_WRONG_TOPIC: _beside(_wrong_topic),
    RpcFaultKind.LOGS_OUT_OF_RANGE: _beside(_out_of_range),
    RpcFaultKind.BLOCK_NULL: _block(lambda chance, block: None),
    RpcFaultKind.BLOCK_WRONG_NUMBER: _block(
        lambda chance, block: block | {"number": hex(int(block["number"], 16) + chance.choice((1, 7, 10**6)))}
    ),
    RpcFaultKind.BLOCK_WRONG_HASH: _block(lambda chance, block: block | {"hash": "0x" + chance.randbytes(32).hex()}),
    RpcFaultKind.WRONG_CHAIN: _chain_id,
    RpcFaultKind.STALE_CALL: _stale_call,
    RpcFaultKind.FAR_HEAD: _far_head,
    RpcFaultKind.FORKED_NODE: _forked,
    RpcFaultKind.EMPTY_CACHES: _stale_call,
    RpcFaultKind.RECEIPTS_REFUSED: _receipts_refused,
}
