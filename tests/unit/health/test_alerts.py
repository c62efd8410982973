"""When alerts are sent, what they say, and what they never say."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from watcher.errors import FixConfiguration
from watcher.health.alert_text import Message, harmless, root_message
from watcher.health.alerts import ONCE_BY_STATE, AlertPlan, Throttle
from watcher.health.conditions import (
    CONDITION_KEYS,
    CONDITIONS,
    FINALITY,
    INCIDENTS,
    KINDS,
    MEASURES,
    MISSED,
    OTHERWISE,
    STOPPED,
)
from watcher.health.delivery import Delivery
from watcher.health.verdict import Condition, Health
from watcher.ledger.audit.roots import Root
from watcher.redact import Redactor
from watcher.settings import checks
from watcher.settings.model import Alerts as AlertSettings
from watcher.settings.model import Settings
from watcher.state import LEGAL, State

SECRET = "hunter2hunter2"
PLAN = AlertPlan(interval_s=30, hourly_limit=10, repeat_s=3600)
START_MS = 1_800_000_000_000


class Time:
    """A desk and its days: looks come every two seconds, as the monitor's."""

    def __init__(self, plan: AlertPlan = PLAN) -> None:
        self.throttle = Throttle("0xabcd..1234 on chain 1", plan, Redactor([SECRET]))
        self.now_s = 0.0
        self.sent: list[tuple[float, Message]] = []
        self._since: dict[str, int] = {}

    @property
    def now_ms(self) -> int:
        return START_MS + int(self.now_s * 1000)

    def advance(self, seconds: float, **wrong: str) -> list[Message]:
        """So long these keys are in trouble, with these words. Returns what is sent meanwhile."""
        before = len(self.sent)
        conditions = {key.replace("_", "-"): reason for key, reason in wrong.items()}
        self._since = {key: self._since.get(key, self.now_ms) for key in conditions}
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            conditions_now = tuple(Condition(key, reason, self._since[key]) for key, reason in conditions.items())
            self.throttle.update(Health(self.now_ms, conditions=conditions_now), self.now_s)
            message = self.throttle.due(self.now_s, self.now_ms)
            if message is not None:
                self.sent.append((self.now_s, message))
            self.now_s += 2
        return [message for _, message in self.sent[before:]]


def test_condition_is_reported_within_seconds_when_it_begins_and_ends() -> None:
    time = Time()
    (began,) = time.advance(20, operator_api="refuses us (401)")
    assert time.sent[0][0] <= 5
    assert began.kind == "failure"
    assert "the operator API does not take answers" in began.title
    assert "refuses us (401)" in began.body
    assert "-> 401, 403: correct the password" in began.body
    (over,) = time.advance(40)
    assert time.sent[1][0] - 20 <= 30
    assert over.kind == "success"
    assert over.title.endswith("over: the operator API does not take answers")
    assert "for 20 s" in over.body
    assert time.advance(100_000) == []


def test_conditions_share_a_message_when_they_begin_together() -> None:
    time = Time()
    (message,) = time.advance(20, chain_rpc="no answer", deadline="1 task", store="disk full")
    assert "(and 2 more)" in message.title
    assert all(reason in message.body for reason in ("no answer", "1 task", "disk full"))


def test_conditions_wait_and_share_a_message_when_one_was_just_sent() -> None:
    time = Time(AlertPlan(interval_s=60, hourly_limit=10, repeat_s=0))
    assert len(time.advance(10, store="full")) == 1
    (later,) = time.advance(90, store="full", chain_rpc="gone", handler="raises")
    assert time.sent[1][0] - time.sent[0][0] >= 60
    assert "gone" in later.body
    assert "raises" in later.body
    assert "full" not in later.body  # told already


def test_condition_is_reported_once_when_it_ended_before_its_message() -> None:
    time = Time(AlertPlan(interval_s=120, hourly_limit=10, repeat_s=0))
    assert len(time.advance(10, store="full")) == 1
    assert time.advance(20, store="full", handler="raises") == []
    (message,) = time.advance(200, store="full")
    assert "[was wrong for a while] the hook fails: raises" in message.body


def test_condition_is_reported_once_when_it_flickers() -> None:
    time = Time()
    for _ in range(20):
        time.advance(4, chain_rpc="gone")
        time.advance(4)
    assert len(time.sent) == 1


def test_messages_stay_within_the_hourly_limit_and_lose_no_condition() -> None:
    time = Time(AlertPlan(interval_s=1, hourly_limit=3, repeat_s=0))
    for number in range(60):
        time.advance(30, handler=f"failure {number}")
        time.advance(30)
    hours = [[at_s for at_s, _ in time.sent if at_s // 3600 == hour] for hour in range(2)]
    assert all(len(hour) <= 3 for hour in hours)
    time.advance(7200)
    assert time.sent[-1][1].kind == "success"


def test_condition_is_repeated_at_the_configured_pace_while_it_lasts() -> None:
    time = Time(AlertPlan(interval_s=30, hourly_limit=10, repeat_s=600))
    messages = time.advance(1900, store="full")
    assert [message.body.partition("]")[0] for message in messages] == ["[wrong", *["[still wrong"] * 3]
    silent = Time(AlertPlan(interval_s=30, hourly_limit=10, repeat_s=0))
    assert len(silent.advance(100_000, store="full")) == 1


def test_incidents_of_tasks_are_counted_and_the_first_are_named() -> None:
    time = Time()
    time.throttle.happened(MISSED, list(range(100, 150)), START_MS)
    time.throttle.happened(MISSED, [7], START_MS)
    time.throttle.happened(OTHERWISE, [3], START_MS)
    (message,) = time.advance(60)
    assert "51 tasks: 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, ..." in message.body
    assert "a task was answered otherwise: task 3" in message.body
    assert "chain" in message.title
    assert time.advance(600) == []


def test_deadline_alert_names_both_outcomes_when_it_ends() -> None:
    time = Time()
    time.advance(20, deadline="1 task is within 10 blocks")
    (message,) = time.advance(60)
    assert "or its deadline has passed" in message.body


def test_last_message_carries_every_unreported_change() -> None:
    time = Time()
    time.throttle.happened(MISSED, [5], START_MS)
    message = time.throttle.last(FINALITY, f"block 7 changed, says http://x.example/{SECRET}", time.now_ms)
    assert "a final block has changed" in message.title
    assert "task 5" in message.body
    assert SECRET not in message.body


def test_table_has_a_row_for_every_condition_and_incident() -> None:
    assert set(KINDS) >= {*CONDITION_KEYS, *ONCE_BY_STATE.values(), FINALITY, STOPPED}
    assert len(KINDS) == len((*CONDITIONS, *INCIDENTS, *MEASURES)), "a key is there twice"
    # A state that is told once must not be left and entered again by ordinary work.
    assert State.EXPIRED not in LEGAL[State.EXPIRED]


def test_alerts_page_explains_every_row() -> None:
    page = (Path(__file__).parents[3] / "docs" / "alerts.md").read_text()
    for kind in KINDS.values():
        assert f"| {kind.title} | `{kind.key}`, `{kind.rule.name}`" in page


@given(st.text(max_size=2000))
def test_text_from_outside_has_no_mention_link_or_line_break(text: str) -> None:
    cleaned = harmless(text, Redactor([SECRET]))
    assert cleaned.isprintable()
    assert not set("@<>`") & set(cleaned)
    assert "://" not in cleaned
    assert len(cleaned) < 2000


def test_a_secret_is_not_in_a_message() -> None:
    time = Time()
    (message,) = time.advance(10, operator_api=f"HTTP 401: {SECRET} http://api.example/v2/{SECRET}?k={SECRET}")
    assert SECRET not in message.body + message.title


@pytest.mark.parametrize(
    ("url", "hidden", "left"),
    [
        ("slack://TokenAAAA/TokenBBBB/TokenCCCC/#ops", ["TokenAAAA", "TokenBBBB", "TokenCCCC"], []),
        ("json://user:s3cr3tpw@hooks.example:8080/path/abcdefgh", ["s3cr3tpw", "abcdefgh"], ["hooks.example"]),
        ("tgram://123456:AAbbCCddEE/998877665", ["AAbbCCddEE", "998877665"], []),
        ("mailtos://bob:appPassword9@mail.example?smtp=smtp.example", ["appPassword9"], ["mail.example"]),
        ("pagerduty://IntegrationKey12@ApiKey34567/", ["IntegrationKey12", "ApiKey34567"], []),
        ("json://127.0.0.1:8080/hook/abcdefgh", ["abcdefgh"], ["127.0.0.1"]),
    ],
)
def test_the_keys_in_an_alert_url_are_secrets_each_alone(url: str, hidden: list[str], left: list[str]) -> None:
    redactor = Redactor(checks.alert_secrets(url))
    for word in hidden:
        assert word not in redactor(f"it said {word}, and {word.lower()}")
    for word in left:
        assert word in redactor(f"connecting to {word}")
    assert not any(word in redactor(f"tried {url} now") for word in hidden)


def test_the_settings_count_alert_urls_among_their_secrets() -> None:
    settings = Settings.model_construct(
        alerts=AlertSettings.model_validate({"urls": ["tgram://123456:AAbbCCddEE/998877665"]})
    )
    assert "AAbbCCddEE" not in repr(settings)


def test_unsupported_url_is_named_by_its_place() -> None:
    section = AlertSettings.model_validate({"urls": ["json://127.0.0.1", "nonsense://aTokenInIt"]})
    with pytest.raises(FixConfiguration, match=r"URL 2: not a service that Apprise supports") as caught:
        Delivery.of(section)
    assert "aTokenInIt" not in str(caught.value)
    assert all(isinstance(url, SecretStr) for url in section.urls)


def test_root_message_has_what_verify_compares_and_counts_the_older() -> None:
    root = Root("2026-11-30", 5, 9, b"\x01" * 32, b"\x02" * 32)
    message = root_message("w", root, 0)
    assert (message.title, message.kind) == ("watcher w: audit root of 2026-11-30", "info")
    assert f"root 0x{'01' * 32} over the entries 5 to 9" in message.body
    assert f"head hash 0x{'02' * 32}" in message.body
    assert "older" not in message.body
    assert "3 older roots" in root_message("w", root, 3).body
