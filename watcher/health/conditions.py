"""The table of conditions: everything that can go wrong, its meaning, the advice, and the Prometheus rule for it.

Imports nothing of ours. The messages of `watcher.health.alert_text` read the table; `make docs` writes the table in
docs/alerts.md and the rules in monitoring/ from it. A new alert is one row here, and the code that raises its key.

Texts are plain sentences: they stand in chats, in Markdown and in YAML. Files are named by their path (docs/apis.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Rule:
    """A Prometheus alerting rule. `expression` is PromQL, by default the condition's gauge; `hold` is the `for:`."""

    name: str
    severity: Literal["critical", "warning"] = "critical"
    hold: str = ""
    expression: str = ""


@dataclass(frozen=True, slots=True)
class ConditionKind:
    """One kind of condition.

    `title` completes "watcher X: ..." and stays as it is: people filter by it. `meaning` says what is true, `advice`
    what to do.
    """

    key: str
    title: str
    meaning: str
    advice: str
    rule: Rule

    @property
    def expression(self) -> str:
        """The PromQL that is true while the condition lasts."""
        return self.rule.expression or f'avs_watcher_trouble{{key="{self.key}"}} == 1'


RPC, API, HOOK, STORE, WATCH = "chain-rpc", "operator-api", "handler", "store", "watch"
DEADLINE, NODE_BEHIND, FINALITY_BEHIND = "deadline", "node-behind", "finality-behind"
NODES_DISAGREE, FINALITY_AT_HEAD = "nodes-disagree", "finality-at-head"
CONVENTION, UNSHOWN = "convention", "answers-not-shown"
HOOK_CHANGED, RESTORED = "hook-changed", "ledger-restored"
SHADOW, REPLICAS, ROOTS = "shadow", "replicas", "audit-roots"
MISSED, OTHERWISE, GIVEN_UP = "missed", "answered-otherwise", "given-up"
FINALITY, STOPPED = "finality", "stopped"

# True while something lasts: in /readyz, in the gauge avs_watcher_trouble and in alerts, which also tell when it ends.
CONDITIONS: tuple[ConditionKind, ...] = (
    ConditionKind(
        RPC,
        "no node answers",
        "No node of chain.rpc_urls has given a good reply for 15 s. /readyz has the reason of each.",
        "Check that the nodes are up, that the key is valid and that its limit is not used up. Add a second provider.",
        Rule("AvsWatcherNodeDown", hold="5s"),
    ),
    ConditionKind(
        API,
        "the operator API does not take answers",
        "The API refuses the operator whatever the task (401, 403, 404), or several requests in a row failed. "
        "Where nothing is to be sent, the watcher tries a connection every ten seconds.",
        "401, 403: correct the password. 404: correct operator.url or operator.api. Then reload (SIGHUP). Otherwise "
        "see the API's status. Nothing is lost: answers wait, and are sent once the API takes them.",
        Rule("AvsWatcherApiBlocked", hold="5s"),
    ),
    ConditionKind(
        HOOK,
        "the hook fails",
        "The last runs failed, or no worker can be started, or the hook has returned nothing for two thirds of "
        "hook.timeout_s (15 s at least, and longer than it ever took).",
        "The log has the error; `watcher hook try` runs the hook by hand. Reload (SIGHUP) after a correction. Tasks "
        "are tried up to hook.max_attempts times, then `watcher tasks retry N` takes them up again.",
        Rule("AvsWatcherHookFailing", hold="5s"),
    ),
    ConditionKind(
        STORE,
        "the ledger is in trouble",
        "The ledger cannot be written or read, or takes more than 15 s. Nothing is sent that cannot be written first.",
        "Check disk space, permissions and the kernel log, or the database server. Then run `watcher db check`.",
        Rule("AvsWatcherLedgerInTrouble", hold="5s"),
    ),
    ConditionKind(
        WATCH,
        "the watcher makes no progress",
        "A stage makes no progress, or tasks wait although everything outside works.",
        "See /readyz, keep the log and report it. The watchdog of systemd restarts a stuck process.",
        Rule("AvsWatcherStageStuck", hold="30s"),
    ),
    ConditionKind(
        DEADLINE,
        "a task is about to miss its deadline",
        "A task has no response on the chain, and alerts.deadline_blocks (10) or fewer blocks are left; where "
        "deadlines are times, alerts.deadline_s (120) or fewer seconds, and no more than a quarter of the window.",
        "See the other alerts, which usually name the cause. `watcher explain N` says what the task waits for. "
        "`watcher tasks retry N` makes it due now.",
        Rule("AvsWatcherDeadlineInDanger"),
    ),
    ConditionKind(
        NODE_BEHIND,
        "the nodes are behind",
        "The nodes answer, but show an older head than before, or no new block for far longer than usual. Nothing is "
        "sent on the word of a lagging node.",
        "Check whether the nodes are in sync and have peers. Compare with a block explorer: the chain may stand still.",
        Rule("AvsWatcherNodeBehind", "warning", "1m"),
    ),
    ConditionKind(
        FINALITY_BEHIND,
        "no block becomes final",
        "The head moves on, and for an hour no block has become final. Tasks are answered; none becomes final, and "
        "none is reported as missed.",
        "Compare with a block explorer. `watcher check` tells whether the nodes know the tag of chain.finality.",
        Rule("AvsWatcherFinalityBehind", "warning", "5s"),
    ),
    ConditionKind(
        NODES_DISAGREE,
        "the nodes contradict each other",
        "For ten seconds two nodes have shown different blocks at one height, or one names a newest block that it "
        "cannot show or that no chain can have reached. The head is still what chain.quorum nodes show.",
        "/readyz names the nodes and the block. Compare with a block explorer and replace the wrong node. With three "
        "nodes and chain.quorum = 2 one wrong node changes nothing.",
        Rule("AvsWatcherNodesDisagree", "warning", "5s"),
    ),
    ConditionKind(
        FINALITY_AT_HEAD,
        "the nodes call the newest block final",
        "For ten minutes of new blocks every node has called the head itself final. /readyz stays green. Unless the "
        "chain is final at once, a reorg can take back what counts as final.",
        "Set chain.finality to a depth in blocks. On a chain that is final at once there is nothing to do.",
        Rule("AvsWatcherFinalityAtHead", "warning", "5s"),
    ),
    ConditionKind(
        CONVENTION,
        "the contract contradicts the convention",
        "Two checks in a row found something that the convention file rules out: a task that counts as answered "
        "before it was made, an answer without a log, a count the contract does not give. Such tasks wait.",
        "The message names the key; `watcher check` says more, and docs/conventions.md explains every key. Correct "
        "the file and restart.",
        Rule("AvsWatcherConventionWrong", hold="5s"),
    ),
    ConditionKind(
        UNSHOWN,
        "accepted answers never come on the chain",
        "The API accepted five answers in a row, and the chain shows none of them. They are sent again at growing "
        "intervals, and several times before the deadline.",
        "Compare [signed] with what the contract hashes. With a preset ask AltLayer whether the aggregator can send, "
        "and for which quorums it is configured. `watcher tasks retry N` makes a task due after a correction.",
        Rule("AvsWatcherAnswersNotShown", hold="5s"),
    ),
    ConditionKind(
        RESTORED,
        "the ledger is an older copy",
        "The ledger knows less than was sent from it, or was moved without its mark. Tasks that may have been "
        "answered before are held back until their deadlines.",
        "See docs/service.md, Restoring a backup; `watcher run --release-held` ends it.",
        Rule("AvsWatcherLedgerRestored"),
    ),
    ConditionKind(
        REPLICAS,
        "part of the work has no replica",
        "Several processes share the ledger, and for 15 s none of them has had a role: nobody watches the chain, runs "
        "the hook, sends answers or confirms them. /readyz names the roles.",
        "Start a process with the missing role: see docs/replicas.md. `watcher top` lists the live ones.",
        Rule("AvsWatcherRoleMissing", hold="5s"),
    ),
    ConditionKind(
        HOOK_CHANGED,
        "the hook's code has changed",
        "A source file of the hook on the disk differs from the one that was loaded. The loaded code answers; no new "
        "worker can start, so that a crash of the last worker stops the answers. Or a service names another version "
        "than at the start; then its new code answers.",
        "Reload (SIGHUP, `systemctl reload`) to use the new code, or put the old file back (docs/hooks.md).",
        Rule("AvsWatcherHookChanged", "warning", "1m"),
    ),
    ConditionKind(
        SHADOW,
        "the shadow differs from the hook",
        "Of the last 100 runs of the shadow hook some came to another result than the hook or failed, or it cannot be "
        "loaded, or is too slow. Tasks are answered by the hook all the same, and /readyz stays green.",
        "`watcher shadow report` shows the differences side by side. Correct hook.shadow.target, or take it out, and "
        "reload (SIGHUP).",
        Rule("AvsWatcherShadowDiffers", "warning", "5m"),
    ),
    ConditionKind(
        ROOTS,
        "the roots of the audit chain are not delivered",
        "A receiver of [audit] has not taken the root of a past day. Until it has, the ledger does not note the root "
        "as published, and an edit of that day can be hidden from whoever keeps the roots. Tasks are answered all the "
        "same, and /readyz stays green.",
        "The message names the receiver and the reason: correct the webhook's address, its server, or the folder and "
        "the free space of audit.roots_file. It is asked again within ten minutes, and gets every root it lacks.",
        Rule("AvsWatcherRootsNotDelivered", "warning", "5m"),
    ),
)

# Things that happen: each alert is sent once, and nothing ends it.
INCIDENTS: tuple[ConditionKind, ...] = (
    ConditionKind(
        MISSED,
        "a task was missed",
        "A final block is past the deadline of the task, and the contract holds no response.",
        "`watcher explain N` has the whole story: seen late, hook too slow, API away, or answer never mined.",
        Rule("AvsWatcherTaskMissed", expression='increase(avs_watcher_task_moves_total{state="expired"}[10m]) > 0'),
    ),
    ConditionKind(
        OTHERWISE,
        "a task was answered otherwise",
        "The chain shows a response that is not ours. Another operator may be wrong, or the hook.",
        "Compare both with `watcher tasks show N --json`, and find out which one is wrong before more are sent.",
        Rule(
            "AvsWatcherAnsweredOtherwise",
            "warning",
            expression='increase(avs_watcher_task_moves_total{state="responded_other"}[10m]) > 0',
        ),
    ),
    ConditionKind(
        GIVEN_UP,
        "a task was given up",
        "The hook gave no answer in hook.max_attempts runs. The task stays given up, also when the hook works again.",
        "`watcher tasks list --state failed` lists them. Correct the hook, reload it (SIGHUP), then run "
        "`watcher tasks retry N` while the window is open.",
        Rule(
            "AvsWatcherTaskGivenUp",
            "warning",
            expression='increase(avs_watcher_task_moves_total{state="failed"}[10m]) > 0',
        ),
    ),
    ConditionKind(
        FINALITY,
        "a final block has changed",
        "The nodes contradict a block they had called final: the chain broke its promise, or it is another chain. The "
        "watcher has stopped (exit code 1) and does not restart: nothing is sent until a person has looked.",
        "Compare the block's hash with other nodes. Replace a wrong node and start again. A chain that was reset "
        "needs a new ledger.",
        Rule("AvsWatcherFinalityBroken", expression="avs_watcher_finality_broken == 1"),
    ),
    ConditionKind(
        STOPPED,
        "the watcher has stopped",
        "The process has ended, or does not answer on http.listen. Nothing is watched and no task is answered.",
        "See `systemctl status` and the end of the log (journalctl -u 'watcher@*'). systemd restarts it unless a "
        "person has to look: exit code 1 a final block changed, 64 the command line, 78 the configuration.",
        Rule("AvsWatcherDown", hold="30s", expression='up{job="avs-watcher"} == 0'),
    ),
)

# What only Prometheus can see: a process that has lost its own view, and numbers that drift.
MEASURES: tuple[ConditionKind, ...] = (
    ConditionKind(
        "stuck",
        "the watcher does not examine itself any more",
        "The process runs, and its health was last evaluated more than a minute ago: its other metrics are old.",
        "Keep the log and restart the process. Nothing is lost by that.",
        Rule("AvsWatcherStuck", expression="time() - avs_watcher_judged_timestamp_seconds > 60"),
    ),
    ConditionKind(
        "cursor-behind",
        "the watcher reads more slowly than the chain grows",
        "The cursor has been more than 50 blocks behind the head for five minutes.",
        "After an outage this is normal while the number falls. Otherwise use a faster node, or raise "
        "chain.max_span_blocks.",
        Rule("AvsWatcherCursorBehind", "warning", "5m", "avs_watcher_lag_blocks > 50"),
    ),
)

KINDS: Mapping[str, ConditionKind] = {kind.key: kind for kind in (*CONDITIONS, *INCIDENTS, *MEASURES)}
CONDITION_KEYS = tuple(kind.key for kind in CONDITIONS)
# True of some chains: reported, and the watcher is ready.
WARNINGS = frozenset({FINALITY_AT_HEAD, SHADOW, ROOTS})
