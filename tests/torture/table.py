"""The verdict as text, and as the table for the documentation."""

from collections.abc import Mapping, Sequence

from tests.torture.evidence import Evidence

LISTED = 8


def table(e: Evidence, violations: Mapping[str, Sequence[str]], gaps: Sequence[str], took_s: float) -> str:
    """Markdown: what was tried, how often, and what was found."""
    done = e.past.done
    states: dict[str, int] = {}
    for row in e.rows:
        states[row.state] = states.get(row.state, 0) + 1
    lines = [
        f"seed {e.plan.seed}, {took_s / 60:.1f} minutes",
        "",
        "| what | how often |",
        "| --- | ---: |",
        *(f"| {name} | {done[name]} |" for name in sorted(done) if not name.startswith("depth ") and done[name]),
        f"| depths of reorgs met | {sum(name.startswith('depth ') for name in done)} |",
        f"| tasks on the chain at the end | {len(e.tasks)} |",
        f"| tasks the ledger ever knew | {len(e.rows)} |",
        f"| requests to the API | {len(e.requests)} |",
        f"| faults of the node ({len(e.rpc_faults)} classes) | {sum(e.rpc_faults.values())} |",
        f"| faults of the API ({len(e.api_faults)} classes) | {sum(e.api_faults.values())} |",
        f"| different moves of tasks | {len(e.transitions)} |",
        "",
        "ended as: " + ", ".join(f"{state} {count}" for state, count in sorted(states.items())),
        "",
        "faults of the node: " + _counts(e.rpc_faults),
        "",
        "faults of the API: " + _counts(e.api_faults),
        "",
        "| check | violations |",
        "| --- | ---: |",
        *(f"| {name} | {len(violations)} |" for name, violations in violations.items()),
        f"| fault coverage: what never happened | {len(gaps)} |",
    ]
    return "\n".join(lines)


def particulars(violations_by_name: Mapping[str, Sequence[str]], gaps: Sequence[str]) -> str:
    lines = []
    for name, violations in violations_by_name.items():
        lines += [f"VIOLATION, {name}: {violation}" for violation in violations[:LISTED]]
        if len(violations) > LISTED:
            lines.append(f"... and {len(violations) - LISTED} more of {name}")
    return "\n".join([*lines, *(f"incomplete: {gap}" for gap in gaps)])


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
