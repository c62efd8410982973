from pathlib import Path

from watcher import Skip
from watcher.testing import make_task, run_hook

HERE = Path(__file__).parent
TRANSFER = b"\x22" * 20 + (5).to_bytes(32, "big")


def test_the_answer_is_the_transfer_behind_an_identity() -> None:
    answer = run_hook("bridge:respond", make_task(TRANSFER), app_dir=HERE)
    assert isinstance(answer, bytes)
    assert answer[32:] == TRANSFER
    assert run_hook("bridge:respond", make_task(TRANSFER), app_dir=HERE) == answer


def test_no_two_requests_share_an_identity() -> None:
    tasks = [
        make_task(TRANSFER),
        make_task(TRANSFER, task_index=1),
        make_task(TRANSFER, chain_id=1),
        make_task(TRANSFER, task_manager=b"\x12" * 20),
    ]
    assert len({run_hook("bridge:respond", task, app_dir=HERE) for task in tasks}) == len(tasks)


def test_skips_what_is_not_a_transfer() -> None:
    assert isinstance(run_hook("bridge:respond", make_task(b"\x01"), app_dir=HERE), Skip)
    assert isinstance(run_hook("bridge:respond", make_task(TRANSFER[:20] + bytes(32)), app_dir=HERE), Skip)
