"""`docs/alerts.md`, and the rules for Prometheus with their tests, made from the table of conditions."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from watcher.health.conditions import CONDITIONS, INCIDENTS, MEASURES, ConditionKind

_INTRODUCTION = """\
# Alerts

<!-- Written by `make docs`; change watcher/health/conditions.py or docs/generate/alerts.py instead. -->

The watcher sends alerts by [Apprise](https://github.com/caronc/apprise/wiki), which supports Slack, Telegram,
PagerDuty, Opsgenie, Discord, Matrix, ntfy, e-mail, any webhook, and many more. The URLs hold keys, so they never stand
in the configuration file: set the credential file `alerts__urls` ([how](service.md#secrets)), or
`WATCHER_ALERTS__URLS`. One a line:

```
slack://TokenA/TokenB/TokenC/#ops
tgram://BotToken/ChatID
pagerduty://IntegrationKey@ApiKey
mailtos://user:password@mail.example?to=ops@example.com
jsons://hooks.example/path
```

`watcher alert test` sends one message to each service and reports which of them accepted it.

## When a message is sent

- A condition is reported when it begins and when it ends. `alerts.repeat_s` (6 hours) repeats those that last. A
  condition that comes and goes within 5 seconds is one condition.
- Changes within seconds of each other share a message. `alerts.interval_s` (30 s) lie between two messages, and
  `alerts.hourly_limit` (30) an hour is the most; nothing is dropped for that, the next message carries it.
- Alerts, `/readyz`, the Node API, the metrics and the status line rest on one evaluation, made every second.
- Each service has a thread and a short queue of its own. One that hangs or fails holds up neither the daemon nor the
  others. Each message is tried three times; the log has one line when a service fails and one when it works again.
- Text from nodes, the API and the hook is cut, put on one line, and freed of secrets and of everything that a chat
  takes for a mention, a link or markup.
- With `audit.alerts = true` one message a day, of level info, has the root of the audit chain
  ([its receivers](audit-format.md#roots)). It counts for no limit.
- **A machine that is off sends nothing.** Have `/readyz` or the metrics watched from outside, too.

The rules for Prometheus are [monitoring/alerts.yml](../monitoring/alerts.yml); they are named in the tables below.
`/readyz` and the label `key` of `avs_watcher_trouble` name a condition by its key.
Run the commands as [By hand](service.md#by-hand) shows: `by_hand my-avs tasks list`.

## Conditions: reported when they begin and when they end

"""
_AFTER_CONDITIONS = """
"over: a task is about to miss its deadline" means that the danger is over: the task was answered, or its deadline has
passed. Once a final block is past the deadline, the next table's alert reports a task that was missed.

## Incidents: reported once

"""
_AFTER_INCIDENTS = """
Incidents of single tasks are reported by the run that saw them. A run that ends in between leaves them in the ledger:
`watcher prove` lists every task that expired or was answered otherwise. No alert reports what was answered or past its
deadline when the ledger was begun: the log has one line.

## Only in Prometheus

"""


def alerts_page() -> str:
    """Return `docs/alerts.md`."""
    tables = [_table(CONDITIONS), _AFTER_CONDITIONS, _table(INCIDENTS), _AFTER_INCIDENTS, _table(MEASURES)]
    return _INTRODUCTION + "".join(tables)


def _table(kinds: Sequence[ConditionKind]) -> str:
    lines = ["| alert | key, rule, severity | meaning | what to do |", "|---|---|---|---|"]
    for kind in kinds:
        names = f"`{kind.key}`, `{kind.rule.name}`, {kind.rule.severity}"
        lines.append(f"| {kind.title} | {names} | {_linked(kind.meaning)} | {_linked(kind.advice)} |")
    return "\n".join(lines) + "\n"


def _linked(text: str) -> str:
    return re.sub(r"docs/(\w+\.md)", r"[\1](\1)", text)


def rules_file() -> str:
    """Return `monitoring/alerts.yml`."""
    lines = [
        "# Alert rules for Prometheus; name the scrape job avs-watcher. docs/alerts.md explains each alert.",
        "# Written by `make docs` from watcher/health/conditions.py.",
        "groups:",
        "  - name: avs-watcher",
        "    rules:",
    ]
    for kind in (*CONDITIONS, *INCIDENTS, *MEASURES):
        lines += [f"      - alert: {kind.rule.name}", f"        expr: {kind.expression}"]
        lines += [f"        for: {kind.rule.hold}"] if kind.rule.hold else []
        lines += ["        labels:", f"          severity: {kind.rule.severity}", "        annotations:"]
        lines += [f"          {name}: {_quoted(text)}" for name, text in _annotations(kind, "{{ $labels.instance }}")]
    return "\n".join(lines) + "\n"


def _annotations(kind: ConditionKind, instance: str) -> Iterator[tuple[str, str]]:
    yield "summary", f"{instance}: {kind.title}"
    yield "description", f"{kind.meaning} What to do: {kind.advice}"


def _quoted(text: str) -> str:
    """Return `text` as a double-quoted scalar of YAML, of which JSON's strings are a subset."""
    return json.dumps(text, ensure_ascii=False)


# The series on which a rule fires and on which it does not, where the rule has an expression of its own.
_SERIES: Mapping[str, tuple[str, str, str]] = {
    "AvsWatcherDown": ('up{job="avs-watcher",instance="w"}', "0+0x40", "1+0x40"),
    "AvsWatcherStuck": ('avs_watcher_judged_timestamp_seconds{instance="w"}', "1+0x40", "0+15x40"),
    "AvsWatcherCursorBehind": ('avs_watcher_lag_blocks{instance="w"}', "51+0x40", "1+0x40"),
    "AvsWatcherFinalityBroken": ('avs_watcher_finality_broken{instance="w"}', "1+0x40", "0+0x40"),
}
_LABELS = re.compile(r'(\w+)="([^"]+)"')


def rules_test_file() -> str:
    """Return `monitoring/alerts_test.yml`: each rule fires on its series, and none fires on a watcher that is well."""
    kinds = (*CONDITIONS, *INCIDENTS, *MEASURES)
    lines = [
        "# `promtool test rules alerts_test.yml`: each rule fires on its series, and none on a watcher that is well.",
        "# Written by `make docs` from watcher/health/conditions.py.",
        "rule_files: [alerts.yml]",
        "evaluation_interval: 15s",
        "tests:",
    ]
    for kind in kinds:
        lines += [*_inputs([(_series(kind)[0], _series(kind)[1])]), *_expected(kind)]
    lines += _inputs([(_series(kind)[0], _series(kind)[2]) for kind in kinds])
    for kind in kinds:
        lines += ["      - eval_time: 8m", f"        alertname: {kind.rule.name}"]
    return "\n".join(lines) + "\n"


def _series(kind: ConditionKind) -> tuple[str, str, str]:
    """Return the series, its values in trouble, and its values in good health."""
    if (series := _SERIES.get(kind.rule.name)) is not None:
        return series
    if not kind.rule.expression:
        return f'avs_watcher_trouble{{key="{kind.key}",instance="w"}}', "0+0x4 1+0x36", "0+0x40"
    state = _LABELS.findall(kind.rule.expression)[0][1]
    return f'avs_watcher_task_moves_total{{state="{state}",instance="w"}}', "0+0x10 1+0x30", "3+0x40"


def _inputs(series: Sequence[tuple[str, str]]) -> list[str]:
    lines = ["  - interval: 15s", "    input_series:"]
    for name, values in series:
        lines += [f"      - series: '{name}'", f"        values: '{values}'"]
    return [*lines, "    alert_rule_test:"]


def _expected(kind: ConditionKind) -> list[str]:
    labels = _LABELS.findall(_series(kind)[0])
    return [
        f"      - eval_time: {_ALERT_AT}",
        f"        alertname: {kind.rule.name}",
        "        exp_alerts:",
        "          - exp_labels:",
        *(f"              {name}: {value}" for name, value in [*labels, ("severity", kind.rule.severity)]),
        "            exp_annotations:",
        *(f"              {name}: {_quoted(text)}" for name, text in _annotations(kind, "w")),
    ]


# Every `for:` is over by then, and an increase within ten minutes is not.
_ALERT_AT = "8m"
