"""What a run with several replicas sets out to do beside the torture's own faults."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from tests.chaos.pg_proxy import Cut
from tests.torture.plan import Plan, make_plan

MODES = ("fast", "immediate")
# Each role twice, so that each outlives any one replica.
MIXED = ("watch,submit,confirm", "watch,respond,confirm", "respond,submit")
EVERY = ("watch,respond,submit,confirm",)
PAST_LEASE = "SIGSTOP past the lease"
# The longest lease, with the torture's settings: that of an attempt (`SubmitPlan.lease_ms`) is 64 s, that of a hook's
# run 62 s and more, by the runs ahead of it.
LEASE_S = 66.0


@dataclass(frozen=True, slots=True)
class ChaosPlan(Plan):
    """Pauses between two of a kind are drawn between the two numbers, in seconds."""

    replicas: int = 3
    roles: tuple[str, ...] = MIXED  # of the replicas, in turn
    restart_s: tuple[float, float] = (5.0, 40.0)  # of the server
    away_s: tuple[float, float] = (0.0, 3.0)  # how long it stays away
    cut_s: tuple[float, float] = (1.0, 10.0)  # of connections at a COMMIT
    lease_s: tuple[float, float] = (60.0, 180.0)  # between two replicas stopped for longer than their lease

    def stop_s(self, chance: random.Random) -> float:
        """How long a replica is stopped: longer than its lease, if the run has the time."""
        return LEASE_S + chance.uniform(2.0, 12.0)


def make_chaos_plan(
    tasks: int,
    kills: int,
    reorgs: int,
    seed: int,
    minutes: float,
    *,
    replicas: int = 3,
    roles: Sequence[str] = MIXED,
    without: Sequence[str] = (),
    quorum: int = 2,
) -> ChaosPlan:
    base = make_plan(tasks, kills, reorgs, seed, minutes, without, quorum)
    values = {field.name: getattr(base, field.name) for field in fields(Plan)} | {"tasks_per_s": 6.0}
    return ChaosPlan(**values, replicas=replicas, roles=tuple(roles))


def small_chaos_plan(tasks: int, seed: int) -> ChaosPlan:
    """For some seconds: the faults of the database alone, and often; nobody is stopped past a lease."""
    nothing: frozenset[Any] = frozenset()
    plan = Plan(tasks, kills=2, reorgs=1, seed=seed, minutes=1.0, rpc=nothing, api=nothing, quorum=2, tasks_per_s=10.0)
    values = {field.name: getattr(plan, field.name) for field in fields(Plan)}
    return ChaosPlan(**values, restart_s=(2.5, 5.0), away_s=(0.0, 0.5), cut_s=(0.2, 1.0))


def restarted(mode: str) -> str:
    return f"server restarted, {mode}"


def expected(plan: ChaosPlan) -> list[str]:
    """What has to happen in a run beside what the torture asks for, under its name in `Past.done`."""
    names = [restarted(mode) for mode in MODES]
    names += [str(cut) for cut in Cut]
    return names if plan.small else [*names, PAST_LEASE]
