"""SIGKILL at any moment loses nothing and says nothing twice."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.system.daemon_rig import Daemon, Rig, running_rig
from watcher.devnet.faults import Fault, FaultKind
from watcher.state import ENDED

KILLS = int(os.environ.get("WATCHER_TEST_KILLS", "9"))
TASKS = int(os.environ.get("WATCHER_TEST_KILL_TASKS", "300"))
SEED = int(os.environ.get("WATCHER_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)


@dataclass(frozen=True)
class Case:
    """How a new task is brought into a state and held there, by the world around the daemon alone."""

    state: str
    hold: Callable[[Rig], Awaitable[None]]
    posts: int = 1  # in all, of the task that needed most
    mined_meanwhile: int = 0  # blocks that come while the daemon is dead
    environment: Mapping[str, str] = field(default_factory=dict)


def _made(*faults: Fault, mined: int = 1) -> Callable[[Rig], Awaitable[None]]:
    async def hold(rig: Rig) -> None:
        rig.net.hosted.faults.add(*faults)
        await rig.create()
        await rig.net.mine(mined) if mined else None

    return hold


def _requested(fault: Fault) -> Callable[[Rig], Awaitable[None]]:
    async def hold(rig: Rig) -> None:
        received, pooled = len(rig.received()), rig.in_pool()
        await _made(fault)(rig)
        await rig.until(lambda: len(rig.received()) > received, "the request has reached the API")
        if fault.after:
            await rig.until(lambda: rig.in_pool() > pooled, "the transaction is in the pool")

    return hold


async def _in_the_hook(rig: Rig) -> None:
    (rig.hook_folder / "open").unlink()
    (index,) = await rig.create()
    await rig.net.mine()
    await rig.until((rig.hook_folder / f"entered-{index}").exists, "the hook has begun")


async def _behind_another(rig: Rig) -> None:
    rig.net.hosted.faults.add(Fault(FaultKind.TIMEOUT))
    batch = await rig.create(8)  # one is sent, and a few attempts are begun ahead
    await rig.net.mine()
    await rig.until(lambda: {rig.state(index) for index in batch} == {"computed", "sending"}, "some must wait")


async def _on_the_chain(rig: Rig) -> None:
    before = rig.in_pool()
    await _made()(rig)
    await rig.until(lambda: rig.in_pool() > before, "the transaction is in the pool")
    await rig.net.mine()


CASES = {
    "seen": Case("seen", _made(mined=0)),
    "ready, in the hook": Case("ready", _in_the_hook),
    "computed, behind another": Case(
        "computed", _behind_another, posts=2, environment={"WATCHER_OPERATOR__CONCURRENCY": "1"}
    ),
    "sending, not accepted": Case("sending", _requested(Fault(FaultKind.TIMEOUT)), posts=2),
    "sending, accepted": Case("sending", _requested(Fault(FaultKind.TIMEOUT, after=True)), mined_meanwhile=1),
    "unknown, not accepted": Case("unknown", _made(Fault(FaultKind.STATUS, status=502)), posts=2),
    "unknown, accepted": Case("unknown", _made(Fault(FaultKind.RESET, after=True))),
    "accepted": Case("accepted", _made()),
    "waiting": Case(
        "waiting",
        _made(Fault(FaultKind.TRANSIENT_400)),
        posts=2,
        environment={"WATCHER_OPERATOR__RETRY_BASE_S": "3", "WATCHER_OPERATOR__RETRY_MAX_S": "3"},
    ),
    "blocked": Case("blocked", _made(Fault(FaultKind.STATUS, status=401)), posts=2),
    "responded": Case("responded", _on_the_chain),
}


async def _kill_in(case: Case, rig: Rig, daemon: Daemon) -> range:
    """Returns the indices of the tasks this case made."""
    first = await rig.net.manager.count()
    await case.hold(rig)
    mine = range(first, await rig.net.manager.count())

    def holds() -> bool:
        return case.state in {rig.state(index) for index in mine}

    await rig.until(holds, f"a task is {case.state}")
    await daemon.kill()
    assert holds(), f"the state did not hold: {rig.states()}"
    await rig.until(lambda: not daemon.group(), "the workers have ended by themselves")
    rig.net.hosted.faults.clear()
    (rig.hook_folder / "open").touch()
    if case.mined_meanwhile:
        await rig.net.mine(case.mined_meanwhile)
    return mine


@pytest.mark.timeout(300)
async def test_a_kill_in_each_state_leaves_one_answer_and_loses_none(tmp_path: Path) -> None:
    posts_of: dict[range, int] = {}
    async with running_rig(tmp_path, hook="gated") as rig:
        (rig.hook_folder / "open").touch()
        for name, case in CASES.items():
            daemon = await rig.start(environment=case.environment)
            await rig.settle()
            mine = await _kill_in(case, rig, daemon)
            print(f"killed while {name}: {[rig.state(index) for index in mine]}")
            posts_of[mine] = case.posts
        last = await rig.start()
        await rig.settle()
        tasks = await rig.verify()
        assert await last.stop() == 0
        assert {len(answers) for answers in rig.hook_answers().values()} == {1}, "the hook was asked again for nothing"
        posts = {task["task_index"]: task["attempts"] for task in tasks}
        assert {mine: max(posts[index] for index in mine) for mine in posts_of} == posts_of


async def _kill_somewhere(rig: Rig, chance: random.Random) -> Counter[str]:
    """One life of the daemon. Returns the states in which its death found the tasks."""
    daemon = await rig.start(ready=False)
    if chance.random() < 0.25:
        await asyncio.sleep(chance.uniform(0.0, 2.0))  # the moment is the input here: also before it is ready
    else:
        begin = rig.steps()
        enough = begin + chance.randint(1, 150)
        await rig.until(lambda: "READY=1" in daemon.notices(), "the daemon is ready")
        await rig.until(lambda: rig.steps() >= enough or rig.all_in(*ENDED), "it has done some steps", timeout_s=20)
        await asyncio.sleep(chance.uniform(0.0, 0.02))
    await daemon.kill()
    await rig.until(lambda: not daemon.group(), "the workers have ended by themselves")
    return Counter(state for state in rig.states().values() if state not in ENDED)


@pytest.mark.timeout(300)
async def test_kills_at_random_moments_leave_one_answer_for_each_of_many_tasks(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    print(f"seed {SEED}: {KILLS} kills, {TASKS} tasks; WATCHER_TEST_SEED={SEED} makes the same choices again")
    async with running_rig(tmp_path, mining=0.25, window_blocks=100_000, slots_in_epoch=2, seed=SEED) as rig:
        rig.environment["WATCHER_OPERATOR__TIMEOUT_S"] = "2"
        rig.environment["WATCHER_OPERATOR__CONCURRENCY"] = "8"
        rig.net.hosted.faults.add(
            Fault(FaultKind.RESET, probability=0.03, after=True),
            Fault(FaultKind.STATUS, probability=0.03),
            Fault(FaultKind.TIMEOUT, probability=0.02),
        )
        met: Counter[str] = Counter()
        busy = 0
        for life in range(KILLS):
            await rig.create(TASKS * (life + 1) // KILLS - TASKS * life // KILLS)
            at_death = await _kill_somewhere(rig, chance)
            busy += bool(at_death)
            met += at_death
        print(f"kills that met open tasks: {busy}; their states: {dict(met)}")
        assert busy >= KILLS // 4 and len(met) >= 3, f"the kills met too little: {busy} {met}"
        rig.net.hosted.faults.clear()
        last = await rig.start()
        await rig.until(
            lambda: rig.all_in("final", indices=range(TASKS)), "every task is final", timeout_s=30 + TASKS / 5
        )
        assert len(await rig.verify()) == TASKS
        assert await last.stop() == 0
