"""The two parties the daemon works with: a hook that never says the same twice, and the hosted operator's API.

The API keeps a journal of all it was sent, checked against the ledger at the moment of arrival: nobody else saw it.
"""

import asyncio
import json
from typing import TYPE_CHECKING, Any

from watcher.errors import AttemptFailed, TryLater
from watcher.operator import reply
from watcher.operator.request import Request
from watcher.task import Later, Outcome, Response, Sent, Skip, Task, Unknown

if TYPE_CHECKING:
    from tests.simulation.world import World

API_TIMEOUT_S = 5.0
HOOK_TIMEOUT_S = 4.0
# What the API may do, and how often, where it misbehaves.
MOODS = {
    "land": 30, "late": 12, "never": 6, "reverts": 6, "liar": 6, "no hash": 4, "lost answer": 12, "lost request": 8,
    "500": 8, "refused": 8, "429": 4, "401": 3, "html": 4, "hang": 4, "rival": 6, "finished": 4,
}  # fmt: skip


class Hook:
    """Plays the crew. Every answer is noted under the task it was given to."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._chance = world.random("hook")
        self.answers: dict[tuple[int, bytes], set[bytes]] = {}
        self.skipped: set[tuple[int, bytes]] = set()
        self.failures: dict[tuple[int, bytes], int] = {}

    async def run(self, task: Task) -> Response | Skip | Later:
        world, chance = self._world, self._chance
        which = task.task_index, task.task_hash
        world.oracle.worked(task)
        await world.pause()
        if world.happens("slow hook"):
            await asyncio.sleep(chance.uniform(0.5, HOOK_TIMEOUT_S))
        if world.happens("no worker"):
            raise TryLater("no worker can be started")
        if world.happens("hook fails"):
            self.failures[which] = self.failures.get(which, 0) + 1
            raise AttemptFailed("the hook raised")
        if world.happens("hook later"):
            return Later(blocks=chance.randint(0, 2), seconds=chance.choice((0.0, 1.0, 3.0)))
        if world.happens("hook skips"):
            self.skipped.add(which)
            return Skip("not for us")
        answer = chance.randbytes(8)
        self.answers.setdefault(which, set()).add(answer)
        world.tell(f"the hook answers task {task.task_index} with {answer.hex()}")
        return Response(answer, "hook 1", 3)


class Api:
    """Plays the client of the proxy API: from the POST to the outcome that the real reading of the answer gives."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._chance = world.random("api")
        self._refuses_until_s = 0.0
        self.posts = 0
        self.taken: dict[tuple[int, bytes], bytes] = {}  # what the aggregator has, per index and answer: its hash

    async def send(self, request: Request) -> Sent:
        world = self._world
        world.alive()
        asked = json.loads(request.body)["params"][0]
        index, created = asked["task_index"], asked["task_created_block"]
        message, answer = bytes.fromhex(asked["message"][2:]), bytes.fromhex(asked["resp_message"][2:])
        self.posts += 1
        world.oracle.posted(request, index, created, message, answer)
        await world.pause()
        mood = self._mood()
        world.tell(f"the API gets task {index}, answer {answer.hex()}, and will do: {mood}")
        status, body = await self._act(mood, index, created, message, answer)
        await world.pause()
        world.alive()
        if mood in ("lost answer", "lost request", "hang"):
            outcome: Outcome = Unknown("no answer in time")
            return Sent(outcome, None, b"", 20)
        headers = {"retry-after": "2"} if mood == "429" else {}
        raw = body if isinstance(body, bytes) else json.dumps({"id": str(request.request_id), **body}).encode()
        return Sent(reply.parse(status, headers, raw, request.request_id), status, raw[:200], 20)

    def _mood(self) -> str:
        if asyncio.get_running_loop().time() < self._refuses_until_s and self._world.rates:
            return "401"
        if not self._world.happens("api"):
            return "land"
        return self._chance.choices(list(MOODS), list(MOODS.values()))[0]

    async def _act(
        self, mood: str, index: int, created: int, message: bytes, answer: bytes
    ) -> tuple[int, dict[str, Any] | bytes]:
        chance, chain = self._chance, self._world.chain
        if mood == "401":
            now_s = asyncio.get_running_loop().time()
            self._refuses_until_s = max(self._refuses_until_s, now_s + chance.uniform(0, 15))
            return 401, b"who are you?"
        if mood == "hang":
            await asyncio.sleep(API_TIMEOUT_S)
        if mood == "rival":
            chain.respond(index, created, message, b"rival" + chance.randbytes(2), 0, False)
        refused = {
            "refused": (400, {"error": {"code": -32000, "message": "something is wrong at the moment"}}),
            "finished": (400, {"error": {"code": -32000, "message": f"task {index} already finished"}}),
            "429": (429, b""),
            "html": (200, b"<html>all is well</html>"),
            "lost request": (0, b""),
        }
        if mood in refused:
            return refused[mood]  # type: ignore[return-value]
        taken = mood not in ("never", "500", "hang") or (mood != "never" and chance.random() < 0.5)
        delay = chance.randint(1, 6) if mood == "late" else chance.randint(0, 1)
        if taken and mood != "liar":
            # The aggregator knows a signature it has already got: it brings it to the chain once.
            known = self.taken.get((index, answer))
            if known is None or chance.random() < 0.5 or mood == "land":
                self.taken[index, answer] = chain.respond(index, created, message, answer, delay, mood == "reverts")
        if mood == "500":
            return 500, b"internal server error"
        tx_hash = self.taken.get((index, answer), bytes(32))
        if mood == "liar":
            mined = list(chain.head.succeeded) or [chain.name("nothing")]
            tx_hash = chance.choice([chance.choice(mined), chain.name("nothing")])
        if mood == "no hash":
            tx_hash = bytes(32)
        return 200, {"result": {"tx_hash": tx_hash.hex(), "sig_hash": "", "task_index": index}}
