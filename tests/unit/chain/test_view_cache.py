"""Readings of one block are shared, and none outlives its block, its failure or, for a zero, its second."""

from tests.kit.clocks import HandClock
from watcher.chain.rpc.replies import Reverted, Unread
from watcher.chain.view_cache import Question, ViewCache
from watcher.task import Header

AT = Header(7, b"\x07" * 32, b"\x06" * 32)
SAME_HEIGHT = Header(7, b"\x77" * 32, b"\x06" * 32)
QUESTION = b"\x11" * 20, b"allTaskHashes(1)"
WORD = b"\x01" * 32


def made() -> tuple[ViewCache, HandClock]:
    clock = HandClock()
    return ViewCache(clock.monotonic_s), clock


def keep(cache: ViewCache, at: Header, question: Question, reply: bytes | Reverted | Unread) -> None:
    cache.keep(at, [(question, reply)])


def reply_in(cache: ViewCache, at: Header, question: Question) -> bytes | Reverted | None:
    return cache.replies(at, [question]).get(question)


def test_reply_is_shared_by_block_hash_address_and_data() -> None:
    cache, clock = made()
    keep(cache, AT, QUESTION, WORD)
    clock.now_s += 100.0
    assert reply_in(cache, AT, QUESTION) == WORD
    assert reply_in(cache, SAME_HEIGHT, QUESTION) is None, "another block of the same height is another state"
    assert reply_in(cache, AT, (b"\x22" * 20, QUESTION[1])) is None
    assert reply_in(cache, AT, (QUESTION[0], b"allTaskHashes(2)")) is None


def test_zero_is_kept_for_a_second_only() -> None:
    cache, clock = made()
    for reply in (bytes(32), b""):
        keep(cache, AT, QUESTION, reply)
        assert reply_in(cache, AT, QUESTION) == reply
        clock.now_s += 1.1
        assert reply_in(cache, AT, QUESTION) is None


def test_failed_reading_is_never_kept() -> None:
    cache, _ = made()
    keep(cache, AT, QUESTION, Unread("no state"))
    assert reply_in(cache, AT, QUESTION) is None
    keep(cache, AT, QUESTION, Reverted("no such function", b""))
    assert reply_in(cache, AT, QUESTION) == Reverted("no such function", b"")


def test_cache_holds_two_blocks_and_a_bounded_number_of_replies() -> None:
    cache, _ = made()
    for number in range(9000):
        keep(cache, AT, (QUESTION[0], b"%d" % number), WORD)
    assert sum(reply_in(cache, AT, (QUESTION[0], b"%d" % number)) is not None for number in range(9000)) == 8192
    for number in (8, 9):
        keep(cache, Header(number, bytes([number]) * 32, b""), QUESTION, WORD)
    assert reply_in(cache, AT, (QUESTION[0], b"0")) is None
