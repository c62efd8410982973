"""The squaring hook as a program in Python. Run it with: target = "exec:python3 squaring_exec.py"

A request comes on descriptor 3, one a line; its verdict goes to descriptor 4. print goes to the log. A program may use
an interpreter and packages of its own; a hook in the watcher's Python is simpler as `module:attribute`.
"""

import json
from typing import Any


def respond(task: dict[str, Any]) -> dict[str, Any]:
    """Return the verdict on a task, whose fields docs/hook.schema.json lists."""
    message = bytes.fromhex(task["message"].removeprefix("0x"))
    if len(message) != 32:
        return {"verdict": "skip", "reason": f"the message is {len(message)} bytes long, not 32"}
    number = int.from_bytes(message, "big")
    return {"verdict": "answer", "response": "0x" + (number * number % 2**256).to_bytes(32, "big").hex()}


def main() -> None:
    """Answer requests until there are no more."""
    with open(3, encoding="utf-8") as requests, open(4, "w", encoding="utf-8") as replies:
        for line in requests:
            request = json.loads(line)
            try:
                verdict = respond(request["task"])
            except Exception as error:  # noqa: BLE001  costs this task an attempt, instead of the program
                verdict = {"verdict": "failed", "reason": repr(error)}
            print(json.dumps({"version": 1, "id": request["id"], **verdict}), file=replies, flush=True)


if __name__ == "__main__":
    main()
