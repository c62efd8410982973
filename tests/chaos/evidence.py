"""The ledger goes from the server into a file, so that the torture's oracle can read it; and what that shows."""

from dataclasses import dataclass
from itertools import zip_longest

from tests.chaos.cluster import Cluster
from tests.chaos.plan import ChaosPlan, expected
from tests.torture.evidence import COMMAND_TIMEOUT_S, Evidence


@dataclass(frozen=True, slots=True)
class Moved:
    """What `watcher tasks list` printed before the move, and what `watcher db copy` printed."""

    listed: list[dict[str, object]]
    code: int
    reported: dict[str, object]
    error: str
    leaks: list[str]


async def move(world: Cluster, plan: ChaosPlan) -> Moved:
    """`watcher db copy --prove` into the rig's file, which is the ledger of the configuration from then on.

    A small run leaves the proofs to what comes after the copy.
    """
    rig = world.rig
    listed = await rig.command("tasks", "list", "--json", timeout_s=COMMAND_TIMEOUT_S)
    target = f"sqlite:///{rig.ledger}"
    prove = () if plan.small else ("--prove",)
    copied = await rig.command("db", "copy", rig.database_url, target, *prove, "--json", timeout_s=COMMAND_TIMEOUT_S)
    rig.config.write_text(rig.config.read_text().replace(rig.database_url, target))
    rig.is_moved = True
    written = listed.out + listed.err + copied.out + copied.err
    leaks = [f"a secret stands in what db copy wrote: {secret}" for secret in world.secrets if secret in written]
    return Moved(listed.json, copied.code, copied.json if copied.out else {}, copied.err[-1500:], leaks)


def changed_by_move(moved: Moved, e: Evidence) -> list[str]:
    """What the file says otherwise than the server did."""
    differences = list(moved.leaks)
    if moved.code != 0 or not moved.reported.get("ok"):
        differences.append(f"db copy: exit code {moved.code}: {moved.error or moved.reported}")
    different = [pair for pair in zip_longest(moved.listed, e.listed) if pair[0] != pair[1]]
    if different:
        differences.append(f"tasks list: {len(different)} rows differ, as {different[0]}")
    return differences


def never_done(plan: ChaosPlan, e: Evidence) -> list[str]:
    return [f"never: {name}" for name in expected(plan) if not e.past.done[name]]
