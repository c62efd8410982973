"""Known secrets in every form they travel in, URLs, and characters that lie to the reader."""

import base64
import json
import re
import string
import sys
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from watcher.redact import HIDDEN, TEXT_LIMIT_CHARS, Redactor, hide_urls, show_url
from watcher.text import escape

KEY = "a1B2c3D4e5F6"
URL = f"https://user:pass99word@rpc.example:8443/v2/{KEY}?apikey=Zz99Yy88"
secrets = st.text(st.characters(codec="utf-8"), min_size=4, max_size=30).filter(lambda s: s.strip("\r\n") == s)
around = st.text(alphabet=string.ascii_letters + " =,.", max_size=12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see http://127.0.0.1:8545.", "see http://127.0.0.1:8545."),
        ("https://u:p@h.example/v2/key?x=1#f", "https://h.example/..."),
        ("https://h.example?key=1", "https://h.example/..."),
        ("(wss://h.example:443/key)", "(wss://h.example:443/..."),
        ("http://[::1]:8545/key", "http://[::1]:8545/..."),
        ("http://u:p@ss@h.example/x", "http://h.example/..."),
        ("http://u:p/ss@h.example/x", "http://..."),
        ('{"url":"https:\\/\\/h.example\\/key"}', '{"url":"https:\\/\\/h.example/..."}'),
        ("postgresql://u:p@h/db", "postgresql://h/..."),
        ("sqlite:////var/lib/w/watcher.db", "sqlite:////var/lib/w/watcher.db"),
        ("no url here: 1//2", "no url here: 1//2"),
    ],
)
def test_of_a_url_only_scheme_host_and_port_are_left(text: str, expected: str) -> None:
    assert hide_urls(text) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (URL, "https://rpc.example:8443"),
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        ("http://u:p/w@h", "http://..."),
        ("hunter22", HIDDEN),
    ],
)
def test_one_url_is_shown_by_its_origin(url: str, expected: str) -> None:
    assert show_url(url) == expected


@given(secrets, around, around, st.binary(max_size=9), st.binary(max_size=9))
@example("päss:wörd/%", "x", "y", b"", b"")
@example("a//b://c/d?e", "x", "y", b"ad", b"")
def test_a_secret_is_hidden_in_every_form(secret: str, before: str, after: str, head: bytes, tail: bytes) -> None:
    redactor = Redactor([secret])
    raw = secret.encode()
    forms = {
        secret,
        escape(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        raw.hex(),
    }
    for form in forms:
        # The secret may be a part of what stands around it, or of the mark itself.
        if form.lower() not in (before + after + HIDDEN + "://...").lower():
            assert form not in redactor(f"{before}{form}{after}")
    encoded = base64.b64encode(head + raw + tail).decode()
    assert redactor(encoded) != encoded
    assert encoded not in redactor(f"Authorization: Basic {encoded}")


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_what_is_left_of_base64_does_not_give_the_secret_back(head: bytes, tail: bytes) -> None:
    secret = b"correct horse"
    redacted = Redactor([secret.decode()])(base64.b64encode(head + secret + tail).decode())
    left = redacted.split(HIDDEN)
    assert len(left) == 2
    assert len(left[0]) <= (len(head) * 8 + 5) // 6
    # At most the bits of the last byte that share a character with what follows.
    assert len(left[1]) <= len(base64.b64encode(head + secret + tail)) - (len(head) + len(secret)) * 8 // 6


@pytest.mark.parametrize(
    "text",
    [
        URL,
        f"GET /v2/{KEY}?apikey=Zz99Yy88 HTTP/1.1",
        f"/v2/{KEY}",
        f"Cannot connect, url='/v2/{KEY}'",
        f"key {KEY.lower()} is over its limit",
        "apikey=Zz99Yy88",
        "Zz99Yy88",
        "user:pass99word",
        "pass99word",
        "Basic " + base64.b64encode(b"user:pass99word").decode(),
        quote(URL, safe=""),
        json.dumps(URL),
        json.dumps(URL).replace("/", "\\/"),
        repr(URL.encode()),
    ],
)
def test_the_parts_of_a_url_are_hidden_on_their_own(text: str) -> None:
    redacted = Redactor([URL])(text)
    for part in (KEY, "Zz99Yy88", "pass99word", base64.b64encode(b"user:pass99word").decode()):
        assert part.lower() not in redacted.lower()


def test_a_url_among_the_secrets_still_shows_its_host() -> None:
    assert Redactor([URL])(f"{URL} timed out") == "https://rpc.example:8443/... timed out"
    assert Redactor(["http://127.0.0.1:8545"])("http://127.0.0.1:8545 is down") == "http://127.0.0.1:8545 is down"


# Characters that match each other where case does not count.
ALIKE = {char: group for group in ("kK\u212a", "sS\u017f", "iI\u0130\u0131", "äÄ", "1", "-") for char in group}
letters = st.sampled_from(sorted(ALIKE))


@given(st.lists(st.tuples(letters, st.integers(0, 3)), min_size=4, max_size=6))
def test_a_secret_is_hidden_whatever_the_case_of_its_letters(pairs: list[tuple[str, int]]) -> None:
    secret = "".join(char for char, _ in pairs)
    written = "".join(ALIKE[char][choice % len(ALIKE[char])] for char, choice in pairs)
    assert Redactor([secret]).hide(f"<{written}>") == f"<{HIDDEN}>"


def test_no_other_character_matches_a_letter_of_ascii() -> None:
    """The search before the pattern relies on it."""
    ascii_of_any_case = re.compile("[\x00-\x7f]", re.IGNORECASE)
    beyond = (chr(code) for code in range(0x80, sys.maxunicode + 1))
    assert [char for char in beyond if ascii_of_any_case.match(char)] == ["\u0130", "\u0131", "\u017f", "\u212a"]


def test_a_very_short_secret_is_hidden_as_a_word_only() -> None:
    redactor = Redactor(["pw", ""])
    assert redactor("password pw, spawn") == f"password {HIDDEN}, spawn"
    assert Redactor([])("nothing is hidden") == "nothing is hidden"


def test_of_two_secrets_the_longer_is_hidden_whole() -> None:
    assert Redactor(["hunter", "hunter2222"])("hunter2222 hunter") == f"{HIDDEN} {HIDDEN}"


def test_the_words_basic_authentication_are_no_header() -> None:
    assert Redactor()("needs basic authentication") == "needs basic authentication"
    assert Redactor()("Authorization: Bearer abc.DEF.123") == f"Authorization: Bearer {HIDDEN}"


def test_long_text_is_cut_and_the_cut_shows_no_half_of_a_secret() -> None:
    redactor = Redactor(["hunter2222"])
    assert len(redactor("x" * 100_000)) < TEXT_LIMIT_CHARS + 20
    # Shrinks to almost nothing, so that what stands at the end of the work limit would come into view.
    text = "http://h/" + "x" * ((1 << 20) - 9 - 6) + " hunter2222"
    assert "hunte" not in redactor(text)


@pytest.mark.parametrize("text", ["a" * 1_000_000, "aa://" * 200_000, "http://a@" * 110_000, "Basic A" * 140_000])
def test_hostile_text_costs_linear_time(text: str) -> None:
    redactor = Redactor([URL, "hunter2222"])
    started = time.process_time()
    redactor(text)
    assert time.process_time() - started < 5


def test_a_redactor_does_not_show_what_it_hides() -> None:
    assert "hunter2222" not in repr(Redactor(["hunter2222"]))
