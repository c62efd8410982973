"""A node that goes on above its true head with blocks of its own: right numbers, hashes nobody else has, no logs."""

import hashlib
from typing import Any

from tests.integration.node_rig import Answers


class Inventor:
    """A twist for `Relay`. While `ahead` is set it shows so many blocks above the head it had then, else the truth."""

    def __init__(self) -> None:
        self._ahead = 0
        self._fork: dict[str, Any] | None = None

    @property
    def ahead(self) -> int:
        return self._ahead

    @ahead.setter
    def ahead(self, blocks: int) -> None:
        self._ahead, self._fork = blocks, None

    def __call__(self, asked: Answers, answers: Answers) -> Answers:
        if not self._ahead:
            return answers
        for question, answer in zip(asked, answers, strict=True):
            which = question["params"][0] if question["method"] == "eth_getBlockByNumber" else None
            if which == "latest":
                self._fork = self._fork or answer["result"]
                answer["result"] = self._block(int(self._fork["number"], 16) + self._ahead)
            elif self._fork is None:
                continue
            elif which is not None and which.startswith("0x") and int(which, 16) > int(self._fork["number"], 16):
                answer["result"] = self._block(int(which, 16))
            elif question["method"] == "eth_getLogs":
                answer.pop("error", None)
                answer["result"] = []
        return answers

    def _block(self, number: int) -> dict[str, Any]:
        fork = self._fork
        assert fork is not None
        above = number - int(fork["number"], 16)
        parent = fork["hash"] if above == 1 else self._hash(number - 1)
        timestamp = hex(int(fork["timestamp"], 16) + above)
        return fork | {"number": hex(number), "hash": self._hash(number), "parentHash": parent, "timestamp": timestamp}

    def _hash(self, number: int) -> str:
        return "0x" + hashlib.sha256(f"invented {number}".encode()).hexdigest()
