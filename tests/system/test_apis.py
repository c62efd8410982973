"""Two APIs: the same ledger through either, tasks the proxy cannot serve, and going over when the proxy dies."""

import base64
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.system.daemon_rig import Rig, running_rig
from watcher.devnet.faults import Fault, FaultKind
from watcher.devnet.hosted import HostedOperator

TASKS = 100
# What tells of the moment, or of a chain that has other times in its headers, and not of the task and its answer.
OF_THE_MOMENT = {
    "tasks": {
        "id", "block_hash", "created_tx_hash", "due_at_ms", "due_block", "lease_until_ms", "fence", "tx_hash",
        "responded_block", "responded_by", "responded_tx_hash", "response_hash", "seen_at_ms", "updated_at_ms",
        "block_time_s", "responded_time_s",
    },
    "attempts": {
        "id", "fence", "began_at_ms", "ended_at_ms", "duration_ms", "answer", "tx_hash",
        "api", "request_digest",  # where the two differ: the API, and so the request
    },
    "responses": {"id", "response_hash", "log", "block_number", "block_hash", "tx_hash", "log_index", "block_time_s"},
}  # fmt: skip
PATIENCE = 3  # blocks, as in the rig


@asynccontextmanager
async def second_api(rig: Rig) -> AsyncIterator[HostedOperator]:
    """Another server before the same operators, as AltLayer's two APIs are."""
    net = rig.net
    other = HostedOperator(net.aggregator, net.journal, "direct", "direct-password")
    await other.start()
    try:
        yield other
    finally:
        await other.stop()


def direct(api: HostedOperator) -> str:
    return f'\n[operator.direct]\nurl = "{api.url}"\navs_name = "devnet"\nusername = "direct"\n'


def configure(rig: Rig, *, operator: str = "", after: str = "") -> None:
    """The rig's file with more in [operator], and tables behind it."""
    rig.write_config(target="rig_hook:dice", changes={"[ledger]": f"{operator}\n{after}\n[ledger]"})
    rig.environment["WATCHER_OPERATOR__DIRECT__PASSWORD"] = "direct-password"


def attempts(rig: Rig) -> list[tuple[int, str, str]]:
    """Index, API and outcome of every POST, in order."""
    return rig.query(
        "SELECT t.task_index, a.api, a.outcome FROM attempts a JOIN tasks t ON t.id = a.task_id "
        "WHERE a.kind = 'post' ORDER BY a.id"
    )


def errors(rig: Rig) -> dict[int, str]:
    return dict(rig.query("SELECT task_index, error FROM tasks"))


async def once_on_chain(rig: Rig, count: int) -> dict[int, bytes]:
    """The answers the contract took, one to each task."""
    answers = await rig.net.manager.answers()
    assert sorted(answer.index for answer in answers) == list(range(count))
    return {answer.index: answer.message for answer in answers}


def answers_asked_for(rig: Rig) -> dict[int, set[str]]:
    """Index -> every different answer any API was asked to sign, whatever the method."""
    answers: dict[int, set[str]] = {}
    for request in rig.received():
        answers.setdefault(request["task_index"], set()).add(request["resp_message"])
    return answers


def made(folder: Path) -> Path:
    """The folder, which is there from now on."""
    folder.mkdir()
    return folder


def rows(rig: Rig, table: str, order: str) -> list[dict[str, Any]]:
    """Whole rows, all columns but those of the moment."""
    names = [name for (name,) in rig.query(f"SELECT name FROM pragma_table_info('{table}')")]
    assert OF_THE_MOMENT[table] < set(names)
    rows_of_table = [dict(zip(names, row, strict=True)) for row in rig.query(f"SELECT * FROM {table} ORDER BY {order}")]
    return [{name: row[name] for name in names if name not in OF_THE_MOMENT[table]} for row in rows_of_table]


async def one_pass(folder: Path, api: str) -> dict[str, list[Any]]:
    """The final ledger of the same tasks through one API."""
    # The same answers in both: the hook squares.
    async with running_rig(folder, hook="square", toml={"api": api}) as rig:
        # On a busy machine an answer may be shown late: no task is sent again for that.
        daemon = await rig.start(WATCHER_OPERATOR__RESOLVE_AFTER_BLOCKS="1000")
        await rig.create(TASKS)
        await rig.settle()
        assert await daemon.stop() == 0
        assert {attempt[1] for attempt in attempts(rig)} == {api}
        assert (await rig.prove())["ok"]
        await once_on_chain(rig, TASKS)
        assert {request["method"] for request in rig.received()} == {
            "proxy": {"operator_createSigTaskResponse"},
            "operator": {"operator_createSigTask"},
        }[api]
        transitions_sql = (
            "SELECT t.task_index, j.from_state, j.to_state FROM journal j JOIN tasks t ON t.id = j.task_id"
        )
        return {
            "tasks": rows(rig, "tasks", "task_index"),
            "attempts": rows(rig, "attempts", "task_id, kind, number"),
            "responses": rows(rig, "responses", "task_index"),
            "moves": rig.query(f"{transitions_sql} ORDER BY t.task_index, j.id"),
        }


async def test_the_same_tasks_give_the_same_ledger_through_either_api(tmp_path: Path) -> None:
    by_proxy, by_operator = [await one_pass(made(tmp_path / api), api) for api in ("proxy", "operator")]
    assert len(by_proxy["tasks"]) == len(by_proxy["responses"]) == TASKS
    assert {row["state"] for row in by_proxy["tasks"]} == {"final"}
    assert by_proxy["moves"] == by_operator["moves"]
    for table in OF_THE_MOMENT:
        pairs = zip(by_proxy[table], by_operator[table], strict=True)
        assert {name for left, right in pairs for name in left if left[name] != right[name]} == set(), table


async def test_failover_from_a_killed_proxy_loses_no_task_and_answers_each_once(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig, second_api(rig) as other:
        configure(rig, operator="failover = true", after=direct(other))
        daemon = await rig.start()
        await rig.create(TASKS // 2)
        await rig.net.mine()
        taken = ("proxy", "accepted")
        await rig.until(
            lambda: sum(attempt[1:] == taken for attempt in attempts(rig)) >= TASKS // 4, "half are accepted"
        )
        await rig.net.hosted.stop()
        await rig.create(TASKS // 2)
        await rig.settle(timeout_s=120)
        assert await daemon.stop() == 0
        assert set(rig.states().values()) == {"final"}, rig.story()
        on_chain = await once_on_chain(rig, TASKS)
        hook_answers = {index: answers for (index, _), answers in rig.hook_answers().items()}
        for index, asked in answers_asked_for(rig).items():
            assert asked == {"0x" + on_chain[index].hex()} <= set(hook_answers[index])
        by_api = Counter(api for _, api, outcome in attempts(rig) if outcome == "accepted")
        assert by_api["proxy"] >= TASKS // 4
        assert by_api["operator"] >= TASKS // 2
        assert (await rig.prove())["ok"]
        opened = [line for line in daemon.log.splitlines() if "operator.circuit_opened" in line]
        assert any("api=proxy cause=unreachable" in line for line in opened), opened
        # What the proxy may have got went on only after the chain had had its blocks to show it.
        moved = rig.query("SELECT task_id, to_state FROM journal ORDER BY id")
        last: dict[int, str] = {}
        for task, state in moved:
            if state == "sending":
                assert last[task] in ("computed", "waiting", "blocked")
            last[task] = state


async def test_failover_avoids_a_refusing_proxy_until_it_accepts_again(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig, second_api(rig) as other:
        configure(rig, operator="failover = true", after=direct(other))
        wrong = {"WATCHER_OPERATOR__PASSWORD": "not the password"}
        daemon = await rig.start(environment=wrong)
        await rig.create(4)
        await rig.settle()
        assert set(rig.states().values()) == {"final"}
        assert {api for _, api, outcome in attempts(rig) if outcome == "accepted"} == {"operator"}
        assert await daemon.stop() == 0
        daemon = await rig.start()
        await rig.create(2)
        await rig.settle()
        assert [attempt[1:] for attempt in attempts(rig) if attempt[0] >= 4] == [("proxy", "accepted")] * 2
        assert await daemon.stop() == 0


async def test_without_failover_the_other_api_gets_nothing_of_the_proxys(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig, second_api(rig) as other:
        configure(rig, after=direct(other))
        await rig.net.hosted.stop()
        daemon = await rig.start()
        await rig.create(2)
        await rig.net.mine()
        await rig.until(lambda: len(attempts(rig)) > 6, "it tries again and again")
        assert {attempt[1] for attempt in attempts(rig)} == {"proxy"}
        await rig.net.hosted.start()
        await rig.settle()
        assert set(rig.states().values()) == {"final"}
        assert await daemon.stop() == 0


async def create_foreign(rig: Rig, count: int = 2) -> list[int]:
    """Tasks with another threshold than the proxy believes in."""
    return await rig.net.create_tasks(rig.messages(count), threshold=60)


async def test_tasks_with_other_quorum_fields_go_to_the_other_api(tmp_path: Path) -> None:
    async with running_rig(tmp_path, proxy_threshold=66) as rig, second_api(rig) as other:
        configure(rig, operator="expected_quorum_numbers = [0]\nexpected_threshold = 66", after=direct(other))
        daemon = await rig.start()
        ours, foreign = await rig.create(2), await create_foreign(rig)
        await rig.settle()
        assert set(rig.states().values()) == {"final"}, rig.story()
        routes = {index: api for index, api, _ in attempts(rig)}
        assert [routes[index] for index in (*ours, *foreign)] == ["proxy"] * 2 + ["operator"] * 2
        assert len(attempts(rig)) == 4
        assert await daemon.stop() == 0


async def test_what_the_proxy_has_served_is_learned_and_decides_between_two(tmp_path: Path) -> None:
    async with running_rig(tmp_path, proxy_threshold=66) as rig, second_api(rig) as other:
        configure(rig, after=direct(other))
        daemon = await rig.start()
        await rig.create(2)
        await rig.settle()
        assert await daemon.stop() == 0  # what is known is in the ledger
        daemon = await rig.start()
        foreign = await create_foreign(rig)
        await rig.settle()
        assert set(rig.states().values()) == {"final"}, rig.story()
        assert [attempt[1:] for attempt in attempts(rig) if attempt[0] in foreign] == [("operator", "accepted")] * 2
        assert await daemon.stop() == 0


async def test_tasks_are_parked_with_a_reason_without_another_api(tmp_path: Path) -> None:
    expected = "expected_quorum_numbers = [0]\nexpected_threshold = 66"
    async with running_rig(tmp_path, proxy_threshold=66) as rig, second_api(rig) as other:
        # Far beyond this test: only the reload can bring them back.
        rig.environment["WATCHER_OPERATOR__RETRY_MAX_S"] = "3600"
        configure(rig, operator=expected)
        daemon = await rig.start()
        foreign, ours = await create_foreign(rig), await rig.create(2)
        await rig.net.mine()
        await rig.until(lambda: rig.all_in("accepted", indices=ours), "the others go out")
        await rig.until(lambda: all(errors(rig)[index] for index in foreign), "the reason is written down")
        assert rig.all_in("computed", indices=foreign)
        for index in foreign:
            assert errors(rig)[index].startswith("parked: the task has threshold 60 %, not 66 %")
        assert {attempt[0] for attempt in attempts(rig)} == set(ours)
        assert daemon.log.count("operator.parked") == 1
        done = await rig.command("tasks", "show", str(foreign[0]), "--json")
        assert "configure [operator.direct]" in json.dumps(done.json)

        configure(rig, operator=expected, after=direct(other))
        daemon.send(signal.SIGHUP)
        await rig.until(lambda: "settings.reloaded: " in daemon.log, "it has read them")
        await rig.until(lambda: {attempt[0] for attempt in attempts(rig)} >= set(foreign), "the parked go out")
        await rig.settle()
        assert set(rig.states().values()) == {"final"}, rig.story()
        assert {attempt[1] for attempt in attempts(rig) if attempt[0] in foreign} == {"operator"}
        assert await daemon.stop() == 0
        assert "direct-password" not in daemon.log


async def test_the_second_apis_secrets_come_out_nowhere(tmp_path: Path) -> None:
    path, password = "cAnArYdirectPath77", "cAnArYdirectPassword99"
    header = base64.b64encode(f"direct:{password}".encode()).decode()
    echo = f"echo-5512 Basic {header} direct:{password} {password} at /{path}/x"
    async with running_rig(tmp_path, proxy_threshold=66) as rig, second_api(rig) as other:
        configure(
            rig, operator="expected_threshold = 66", after=direct(other).replace(other.url, f"{other.url}/{path}/x")
        )
        rig.environment["WATCHER_OPERATOR__DIRECT__PASSWORD"] = password
        # It knows our password, and throws it back at us.
        other._credentials = header
        other.faults.add(Fault(FaultKind.TRANSIENT_400, text=echo, times=1))
        other.faults.add(Fault(FaultKind.STATUS, status=401, text=echo, times=1))
        daemon = await rig.start()
        await create_foreign(rig, 3)
        await rig.settle()
        assert set(rig.states().values()) == {"final"}, rig.story()
        index = str(0)
        outputs = [await rig.command("check"), await rig.command("tasks", "show", index, "--json")]
        assert await daemon.stop() == 0
        everything = daemon.log + "".join(done.out + done.err for done in outputs)
        everything += "".join(file.read_bytes().decode("latin-1") for file in rig.folder.glob("watcher.db*"))
        assert "echo-5512" in everything, "it has come as far as the ledger"
        for secret in (path, password, header):
            assert secret not in everything, secret


async def test_the_check_tries_both_and_says_which_is_down(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig, second_api(rig) as other:
        configure(rig, after=direct(other))

        async def verdicts(**environment: str) -> dict[bool, str]:
            """Of each API; True is the one beside the proxy."""
            done = await rig.command("check", "--json", environment=environment)
            assert done.out, done.err
            return {
                "[operator.direct]" in finding["words"]: finding["verdict"]
                for finding in done.json
                if finding["what"] == "API"
            }

        assert await verdicts() == {False: "ok", True: "ok"}
        assert await verdicts(WATCHER_OPERATOR__DIRECT__PASSWORD="wrong one") == {False: "ok", True: "wrong"}
        await rig.net.hosted.stop()
        assert await verdicts() == {False: "wrong", True: "ok"}
