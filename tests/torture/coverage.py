"""What has to happen in a run for its verdict to mean something."""

from tests.torture.evidence import Evidence
from tests.torture.havoc import FATES

# Moves that a large run must meet. The rest of `watcher.task.LEGAL` needs a chain that breaks its promise of finality,
# or a coincidence that cannot be arranged from outside; the tests of each stage bring those about.
MOVES = frozenset(
    {
        (None, "seen"),
        ("seen", "ready"),
        ("seen", "orphaned"),
        ("ready", "computed"),
        ("ready", "skipped"),
        ("ready", "failed"),
        ("computed", "sending"),
        ("sending", "accepted"),
        ("sending", "unknown"),
        ("sending", "waiting"),
        ("sending", "blocked"),
        ("blocked", "sending"),
        ("unknown", "responded"),
        ("unknown", "waiting"),
        ("accepted", "responded"),
        ("accepted", "responded_other"),
        ("accepted", "waiting"),
        ("accepted", "orphaned"),
        ("waiting", "sending"),
        ("waiting", "expired"),
        ("responded", "final"),
        ("responded", "unknown"),
        ("responded_other", "final_other"),
        ("failed", "ready"),
        ("skipped", "ready"),
    }
)
SMALL_MOVES = frozenset(
    {
        (None, "seen"),
        ("seen", "ready"),
        ("ready", "computed"),
        ("computed", "sending"),
        ("sending", "accepted"),
        ("accepted", "responded"),
        ("responded", "final"),
    }
)
ACTS = ("node away", "node hangs", "API away", "API restarted, nothing remembered", "roll-back", "SIGSTOP")


def missing(e: Evidence) -> list[str]:
    done, plan = e.past.done, e.plan
    found = [
        f"{wanted} {what} wanted, {had} done"
        for what, wanted, had in (
            ("tasks on the chain", plan.tasks, len(e.tasks)),
            ("kills", plan.kills, done["SIGKILL"]),
            ("reorgs", plan.reorgs, done["reorgs"]),
        )
        if had < wanted
    ]
    found += [f"fault rpc.{kind} never happened" for kind in sorted(plan.rpc) if not e.rpc_faults[kind]]
    found += [f"fault api.{kind} never happened" for kind in sorted(plan.api) if not e.api_faults[kind]]
    moves = SMALL_MOVES if plan.small else MOVES
    found += [f"no task moved from {before} to {after}" for before, after in moves if not e.moves[before, after]]
    if not plan.small:
        found += [f"never: {act}" for act in ACTS if not done[act]]
        found += [f"no reorg of the kind {fate}" for fate in FATES if not done[f"reorg {fate}"]]
    return found
