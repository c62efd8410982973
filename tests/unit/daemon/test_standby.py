"""The stages of a replica: those of the leader rest while another leads, and the head is asked for in their place."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from watcher.daemon.replica import Replica
from watcher.daemon.standby import HEAD, HeadPoll, Led, stages_of
from watcher.daemon.wiring import Stages
from watcher.errors import NotLeading, RetryElsewhere

REST_S, HEAD_REST_S = 7.0, 5.0


class Step:
    """A stage that counts its steps."""

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name, self.error, self.steps = name, error, 0

    async def step(self) -> float:
        self.steps += 1
        if self.error is not None:
            raise self.error
        return REST_S


class Lead:
    """A replica, as far as the stages see it."""

    def __init__(self, *, leads: bool) -> None:
        self.leads, self.deposals = leads, 0

    def deposed(self) -> None:
        self.deposals += 1
        self.leads = False


class Nodes:
    """Nodes of which the head is asked."""

    def __init__(self) -> None:
        self.questions, self.is_down = 0, False

    async def head(self) -> None:
        self.questions += 1
        if self.is_down:
            raise RetryElsewhere("no node answers")


def led(stage: Step, lead: Lead, otherwise: Any = None) -> Led:
    return Led(stage, cast("Replica", lead), otherwise)


async def test_the_leader_runs_the_stage() -> None:
    stage = Step("watch")
    assert await led(stage, Lead(leads=True), Step("other")).step() == REST_S
    assert stage.steps == 1


async def test_a_replica_that_does_not_lead_rests_or_does_something_else() -> None:
    stage, other, lead = Step("watch"), Step("other"), Lead(leads=False)
    assert await led(stage, lead).step() == HEAD_REST_S
    assert await led(stage, lead, other).step() == REST_S
    assert (stage.steps, other.steps) == (0, 1)
    lead.leads = True
    await led(stage, lead, other).step()
    assert (stage.steps, other.steps) == (1, 1), "it begins as soon as it leads"


async def test_a_leader_whose_commit_was_refused_leads_no_more() -> None:
    lead = Lead(leads=True)
    assert await led(Step("watch", NotLeading("another leads")), lead).step() == 0
    assert (lead.deposals, lead.leads) == (1, False)


async def test_other_errors_stay_those_of_the_stage() -> None:
    lead = Lead(leads=True)
    with pytest.raises(RetryElsewhere):
        await led(Step("watch", RetryElsewhere("no node")), lead).step()
    assert lead.deposals == 0


async def test_the_poll_of_the_head_fails_as_its_nodes_do() -> None:
    nodes = Nodes()
    poll = HeadPoll(cast("Any", nodes))
    assert await poll.step() == HEAD_REST_S
    nodes.is_down = True
    with pytest.raises(RetryElsewhere):
        await poll.step()
    assert nodes.questions == 2


@pytest.mark.parametrize(
    ("roles", "names"),
    [
        (("watch", "respond"), ["watch", "admit", "respond", "recheck"]),
        (("respond",), ["respond", HEAD]),
    ],
)
async def test_every_replica_asks_for_the_head(roles: tuple[str, ...], names: list[str]) -> None:
    """One that could lead does so in place of its stage `watch`, any other in a stage of its own."""
    made = {name: Step(name) for name in names if name != HEAD}
    stages = SimpleNamespace(stages=list(made.values()), watch=made.get("watch"), roles=roles)
    nodes = Nodes()
    running = stages_of(cast("Stages", stages), cast("Any", nodes), cast("Replica", Lead(leads=False)))
    assert [stage.name for stage in running] == names
    for stage in running:
        await stage.step()
    assert nodes.questions == 1
    assert {name for name, stage in made.items() if stage.steps} == {"respond"}
