"""What has to happen in a run for its verdict to mean something."""

from tests.torture.evidence import Evidence
from tests.torture.havoc import ACTS, FATES

# Transitions that a large run must meet; `transitions.py` arranges those that the storm did not bring. The rest of
# `watcher.state.LEGAL` needs a chain that breaks its promise of finality, or a coincidence that cannot be arranged from
# outside; the tests of each stage bring those about.
TRANSITIONS = frozenset(
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
SMALL_TRANSITIONS = frozenset(
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


def missing(e: Evidence) -> list[str]:
    done, plan = e.past.done, e.plan
    gaps = [
        f"{expected} {what} wanted, {had} done"
        for what, expected, had in (
            ("tasks on the chain", plan.tasks, len(e.tasks)),
            ("kills", plan.kills, done["SIGKILL"]),
            ("reorgs", plan.reorgs, done["reorgs"]),
        )
        if had < expected
    ]
    gaps += [f"fault rpc.{kind} never happened" for kind in sorted(plan.rpc) if not e.rpc_faults[kind]]
    gaps += [f"fault api.{kind} never happened" for kind in sorted(plan.api) if not e.api_faults[kind]]
    transitions = SMALL_TRANSITIONS if plan.small else TRANSITIONS
    gaps += [
        f"no task moved from {before} to {after}" for before, after in transitions if not e.transitions[before, after]
    ]
    if not plan.small:
        gaps += [f"never: {act}" for act in ACTS if not done[act]]
        gaps += [f"no reorg of the kind {fate}" for fate in FATES if not done[f"reorg {fate}"]]
    return gaps
