"""The daemon on task managers of other shapes: the presets, and contracts that show less than they could."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.system.daemon_rig import Rig, running_rig
from watcher import verify

PRESETS = ("wizard", "wizard-bridge", "incredible-squaring", "chainbase")
EXAMPLES = Path(__file__).parents[2] / "examples"

# The squaring contract as somebody may describe it who has only its two events.
EVENTS_ONLY = """
answer = "uint256"
[task]
event = "NewTaskCreated(uint32 indexed i, (uint256 number, uint32 created, bytes quorums, uint32 threshold) t)"
index = "i"
created_block = "t.created"
message = "t.number"
quorum_numbers = "t.quorums"
quorum_threshold = "t.threshold"
[deadline]
window_blocks = 100
[response]
event = "TaskResponded((uint32 i, uint256 squared) r, (uint32 block, bytes32 nonSigners) m)"
index = "r.i"
answer = "r.squared"
[call]
method = "respondToTask"
types = ["(uint256,uint32,bytes,uint32)", "(uint32,uint256)"]
values = ["t", ["$index", "$answer"]]
[signed]
types = ["uint32", "uint256"]
values = ["$index", "$answer"]
"""
UNSEEN = EVENTS_ONLY[: EVENTS_ONLY.index("[response]")] + EVENTS_ONLY[EVENTS_ONLY.index("[call]") :]
BY_TIME = EVENTS_ONLY.replace("window_blocks = 100", 'timestamp = "t.number"')


def described(rig: Rig, text: str, target: str = "rig_hook:square", **toml: Any) -> None:
    """Points the configuration at a convention file of one's own."""
    file = rig.folder / "mine.toml"
    file.write_text(text)
    named = f'convention = "{rig.net.options.convention}"'
    rig.write_config(
        target=target,
        **toml,
        changes={named: f'convention = "custom"\nconvention_file = "{file}"'},
    )


async def answered(rig: Rig) -> Mapping[int, bytes]:
    """What the chain shows, by index; asserts that nothing was answered twice."""
    answers = await rig.net.manager.answers()
    assert len({answer.index for answer in answers}) == len(answers)
    return {answer.index: answer.message for answer in answers}


async def final_and_proved(rig: Rig, count: int, *, unproven: list[str]) -> dict[str, Any]:
    await rig.settle()
    assert set(rig.states().values()) == {"final"}, rig.story()
    assert {task["task_index"]: task["response"] for task in await rig.tasks()} == {
        index: "0x" + answer.hex() for index, answer in (await answered(rig)).items()
    }
    proof = await rig.prove()
    assert (proof["ok"], proof["known"], proof["answered_by_us"]) == (True, count, count)
    assert proof["unproven"] == unproven
    return proof


@pytest.mark.parametrize("name", PRESETS)
async def test_every_preset_answers_its_tasks_with_the_example_beside_it(
    name: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_rig(tmp_path, convention=name) as rig:
        convention = rig.net.convention
        folder = next(path.parent for path in EXAMPLES.glob(f"*/{convention.hook.partition(':')[0]}.py"))
        rig.write_config(target=convention.hook, app_dir=str(folder))
        daemon = await rig.start()
        questions = [convention.question(number) for number in range(1, 6)]
        await rig.net.create_tasks(questions)
        await final_and_proved(rig, 5, unproven=[])
        assert await daemon.stop() == 0
        done = await rig.command("audit", "export", "bundle.jsonl")
        assert done.code == 0, done
        assert verify.check_bundle([str(rig.folder / "bundle.jsonl"), "--rpc", rig.net.rpc_url]) == 0
        printed = capsys.readouterr().out
        assert printed.count("answered with our bytes in block") == 5, printed
        assert "not compared with the chain:" not in printed


async def test_a_contract_without_views_is_watched_by_its_events(tmp_path: Path) -> None:
    async with running_rig(tmp_path, convention="incredible-squaring") as rig:
        described(rig, EVENTS_ONLY)
        daemon = await rig.start()
        await rig.create(5)
        proof = await final_and_proved(rig, 5, unproven=["completeness", "tasks", "answers"])
        assert proof["latest_task_num"] is None
        assert await daemon.stop() == 0
        done = await rig.command("prove")
        assert "completeness" in done.out


async def test_a_contract_that_shows_no_answers_leaves_them_delivered(tmp_path: Path) -> None:
    async with running_rig(tmp_path, convention="incredible-squaring") as rig:
        described(rig, UNSEEN)
        daemon = await rig.start()
        await rig.create(3)
        await rig.settle()
        assert set(rig.states().values()) == {"delivered"}, rig.story()
        assert len(rig.received()) == 3
        await rig.net.mine(20)
        assert await daemon.stop() == 0
        assert len(rig.received()) == 3, "what was delivered is not sent again"


async def test_task_above_all_of_the_stake_is_told_and_not_sent(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        (never,) = await rig.net.create_tasks(rig.messages(1), threshold=101)
        (other,) = await rig.create(1)
        daemon = await rig.start()
        async with rig.mining(0.3):
            await rig.until(lambda: rig.state(other) == "final", "the task that can be answered is")
        await rig.until(lambda: "asks for 101 % of the stake" in daemon.log, "the other one is told")
        assert [task["error"] for task in await rig.tasks() if task["task_index"] == never] != [None]
        assert len(rig.received()) == 1
        assert await daemon.stop() == 0


async def test_a_deadline_that_is_a_time_is_kept(tmp_path: Path) -> None:
    """The number of a task doubles as its time: one is long past, the other far away."""
    async with running_rig(tmp_path, convention="incredible-squaring") as rig:
        described(rig, BY_TIME)
        late, open_ = await rig.net.create_tasks([number.to_bytes(32, "big") for number in (1_000, 4_000_000_000)])
        daemon = await rig.start()
        await rig.settle()
        assert (rig.state(late), rig.state(open_)) == ("expired", "final"), rig.story()
        assert list(await answered(rig)) == [open_]
        until = {task["task_index"]: task["deadline_at"] for task in await rig.tasks()}
        assert until == {late: "1970-01-01T00:16:40.000Z", open_: "2096-10-02T07:06:40.000Z"}
        assert len(rig.received()) == 1, "nothing is sent for what is too late"
        assert await daemon.stop() == 0


async def test_a_reorg_that_takes_an_answer_back_is_seen_without_views_too(tmp_path: Path) -> None:
    async with running_rig(tmp_path, convention="incredible-squaring", slots_in_epoch=8) as rig:
        described(rig, EVENTS_ONLY)
        daemon = await rig.start()
        await rig.create(1)
        await rig.net.mine()
        await rig.until(lambda: rig.in_pool() == 1, "the answer is in the pool")
        await rig.net.mine()
        await rig.until(lambda: rig.all_in("responded"), "the answer is on the chain")
        await rig.net.chain.reorg(1, lambda _: None)
        await rig.net.mine()
        await final_and_proved(rig, 1, unproven=["completeness", "tasks", "answers"])
        assert await daemon.stop() == 0


WRONGLY_SIGNED = EVENTS_ONLY.replace(
    'types = ["uint32", "uint256"]\nvalues = ["$index", "$answer"]',
    'types = ["uint256", "uint32"]\nvalues = ["$answer", "$index"]',
).replace("window_blocks = 100", "window_blocks = 60")


async def test_a_wrong_signed_is_reported_and_slows_down(tmp_path: Path) -> None:
    """The API accepts what it signed, and the contract refuses every transaction, for as long as it is asked."""
    async with running_rig(tmp_path, convention="incredible-squaring", window_blocks=60) as rig:
        described(rig, WRONGLY_SIGNED)
        daemon = await rig.start()
        await rig.create(1)
        created = await rig.net.chain.head()
        while await rig.net.chain.head() < created + 64:
            await rig.net.mine()
            await rig.caught_up()
            if await rig.net.chain.head() == created + 40:  # blocks come faster here than health is evaluated
                await rig.until(lambda: "answers-not-shown" in daemon.log, "the condition is logged")
        await rig.settle()
        assert rig.state(0) == "expired", rig.story()
        posts = len(rig.received())
        # One in four blocks would be fifteen: it is five, and then some at growing distances.
        assert 7 <= posts <= 12, rig.story()
        mined = [entry["block_number"] for entry in rig.journal() if entry["what"] == "mined"]
        assert mined[-1] > created + 45, "what is left of the window is used"
        assert 'condition=answers-not-shown reason="the API accepted 5 answers in a row' in daemon.log
        assert "compare [signed] with the contract" in daemon.log
        assert await daemon.stop() == 0


async def test_a_view_that_says_answered_from_the_start_is_reported(tmp_path: Path) -> None:
    always = 'answer = "r.squared"\nhash_view = "allTaskHashes(uint32)"'
    async with running_rig(tmp_path, convention="incredible-squaring") as rig:
        described(rig, EVENTS_ONLY.replace('answer = "r.squared"', always))
        daemon = await rig.start()
        await rig.create(1)
        await rig.net.mine(3)
        await rig.until(
            lambda: 'condition=convention reason="task_manager.convention: ' in daemon.log, "it is logged", timeout_s=60
        )
        assert "allTaskHashes(uint32) is not zero for task 0 in the block that made it" in daemon.log
        assert rig.received() == []
        assert await daemon.stop() == 0
