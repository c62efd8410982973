"""The questions of a look."""

from dataclasses import replace

from watcher.chain.rpc.poll import Subject


def test_look_asks_for_the_last_block_before_and_behind_the_logs() -> None:
    subject = Subject(6, b"\x11" * 20, [b"\x22" * 32], final="finalized")
    methods = [method for method, _ in subject.calls(7)]
    assert methods == ["eth_getBlockByNumber", "eth_getLogs", *["eth_getBlockByNumber"] * 3]
    assert [params[0] for method, params in subject.calls(7) if "Block" in method] == ["0x7", "0x7", "0x6", "finalized"]


def test_look_asks_for_a_steady_final_block_by_its_height_too() -> None:
    subject = Subject(6, b"\x11" * 20, [b"\x22" * 32], final="finalized", final_behind=5)
    blocks = [params[0] for method, params in subject.calls(7) if "Block" in method]
    assert blocks == ["0x7", "0x7", "0x6", "finalized", "0x2", "0x7"]
    assert [params[0] for _, params in subject.calls(7, logs=False)] == ["0x7", "finalized", "0x2", "0x7"]
    blocks = [params[0] for method, params in replace(subject, final_behind=8).calls(7) if "Block" in method]
    assert blocks == ["0x7", "0x7", "0x6", "finalized"], "there is no block below 0"
