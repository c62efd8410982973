"""The replies of one look: whole, young, and of one moment; or the question is asked again."""

from tests.kit.clocks import HandClock
from watcher.chain.rpc import calls
from watcher.chain.rpc.errors import RpcError
from watcher.chain.rpc.prefetch import KEPT_S, LATEST, Replies

BLOCK, OTHER = calls.block(7), calls.block(8)
LOGS = calls.logs(b"\x11" * 20, [[b"\x22" * 32]], 7, 7)


def made() -> tuple[Replies, HandClock]:
    clock = HandClock()
    return Replies(clock), clock


def test_reply_is_there_only_when_every_call_was_asked() -> None:
    replies, _ = made()
    replies.keep([BLOCK, LOGS, BLOCK], [{"number": "0x7"}, [], {"number": "0x7"}])
    assert replies.to([BLOCK, LOGS, BLOCK]) == [{"number": "0x7"}, [], {"number": "0x7"}]
    assert replies.to([BLOCK, OTHER]) is None
    assert replies.to([LATEST]) is None


def test_reply_is_forgotten_when_it_is_old_or_another_look_begins() -> None:
    replies, clock = made()
    replies.keep([BLOCK], [1])
    clock.now_s += KEPT_S + 0.01
    assert replies.to([BLOCK]) is None
    replies.keep([OTHER], [2])
    assert replies.to([BLOCK]) is None, "a new look does not bring an old reply back"
    replies.forget()
    assert replies.to([OTHER]) is None


def test_later_replies_of_a_look_do_not_make_it_younger() -> None:
    replies, clock = made()
    replies.keep([BLOCK], [1])
    clock.now_s += KEPT_S * 0.8
    replies.keep([OTHER], [2])
    assert replies.to([BLOCK, OTHER]) == [1, 2]
    clock.now_s += KEPT_S * 0.4
    assert replies.to([BLOCK]) is None


def test_block_that_changed_within_the_request_is_no_reply() -> None:
    replies, _ = made()
    replies.keep([BLOCK, LOGS, BLOCK], [{"hash": "0x1"}, [], {"hash": "0x2"}])
    assert replies.to([BLOCK]) is None
    assert replies.to([LOGS]) == [[]]


def test_null_and_error_are_no_replies() -> None:
    replies, _ = made()
    replies.keep([BLOCK, OTHER], [1, 2])
    replies.keep([BLOCK, OTHER], [None, RpcError(-32000, "header not found")])
    assert replies.to([BLOCK]) is None
    assert replies.to([OTHER]) is None
