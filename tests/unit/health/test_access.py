"""The token, its sessions and the bound on wrong ones, with a clock set by hand."""

from tests.kit.clocks import SetClock
from watcher.health.access import SESSION_S, Access

TOKEN = "a token of some length"


def access(token: str = TOKEN, *, is_local: bool = True, protects_all: bool = False) -> tuple[Access, SetClock]:
    clock = SetClock()
    return Access(token, clock, is_local=is_local, protects_all=protects_all), clock


def test_only_the_token_is_accepted() -> None:
    own, _ = access()
    assert own.accepts(TOKEN, "a")
    for wrong in ("", TOKEN[:-1], TOKEN + " ", TOKEN.upper(), "\udcff", "ü" * 1000):
        assert not own.accepts(wrong, "b")


def test_without_a_token_nothing_is_accepted() -> None:
    own, _ = access("")
    assert not own.has_token
    assert not own.accepts("", "a")
    assert not own.bears_token("Bearer ", "a")


def test_header_needs_the_scheme_and_the_token() -> None:
    own, _ = access()
    assert own.bears_token(f"Bearer {TOKEN}", "a")
    assert own.bears_token(f"bearer  {TOKEN} ", "a")
    for wrong in (None, "", "Bearer", f"Basic {TOKEN}", TOKEN):
        assert not own.bears_token(wrong, "a")


def test_session_ends_by_time_and_by_logout() -> None:
    own, clock = access()
    first, second = own.open_session(), own.open_session()
    session = own.session(first)
    assert session is not None
    assert session.proves(session.proof)
    other = own.session(second)
    assert other is not None
    assert not session.proves(other.proof)
    own.end_session(second)
    assert own.session(second) is None
    clock.now_s += SESSION_S + 1
    assert own.session(first) is None
    assert own.session(None) is None
    assert own.session("x") is None


def test_sessions_are_bounded_and_the_oldest_ends() -> None:
    own, _ = access()
    cookies = [own.open_session() for _ in range(65)]
    assert own.session(cookies[0]) is None
    assert all(own.session(cookie) for cookie in cookies[1:])


def test_wrong_tokens_make_their_address_wait() -> None:
    own, clock = access()
    for _ in range(5):
        assert own.wait_s("a") == 0
        own.accepts("wrong", "a")
    assert own.wait_s("a") == 60
    assert own.wait_s("b") == 0
    assert not own.bears_token(f"Bearer {TOKEN}", "a")
    clock.now_s += 61
    assert own.wait_s("a") == 0
    assert own.bears_token(f"Bearer {TOKEN}", "a")


def test_wrong_tokens_from_many_addresses_make_all_wait() -> None:
    own, clock = access()
    for number in range(600):
        own.accepts("wrong", f"address {number}")
    assert own.wait_s("another") == 60
    clock.now_s += 61
    assert own.wait_s("another") == 0


def test_what_is_open_follows_from_address_and_setting() -> None:
    rules = [(True, False), (False, False), (True, True), (False, True)]
    made = [access(is_local=local, protects_all=everything)[0] for local, everything in rules]
    assert [own.reading_is_open for own in made] == [True, False, False, False]
    assert [own.probes_are_open for own in made] == [True, True, False, False]
