"""Conditions of nodes that answer: they lag, they contradict each other, or their finality is in doubt. Pure."""

from watcher.health.conditions import FINALITY_AT_HEAD, FINALITY_BEHIND, NODE_BEHIND, NODES_DISAGREE
from watcher.health.readings import Limits, Observations

_STALLED_S = 60.0
_STALLED_INTERVALS = 10


def conditions_of_nodes(seen: Observations, limits: Limits, in_sight_s: float | None) -> dict[str, str]:
    """Return the conditions by their keys, each with a message; none while no node answers.

    Args:
        seen: the observations.
        limits: the limits of normal.
        in_sight_s: for how long nodes have answered without a break, None before the first evaluation. While no node
            answers, the watcher cannot tell whether the chain moves.
    """
    node, work = seen.node, seen.work
    if node.answered_ago_s is None or node.answered_ago_s > limits.quiet_node_s:
        return {}
    conditions: dict[str, str] = {}
    if node.disagreement and node.disagreeing_s >= limits.disagreeing_s:
        conditions[NODES_DISAGREE] = f"the endpoints of chain.rpc_urls contradict each other: {node.disagreement}"
    if node.final_at_head_s >= limits.final_at_head_s:
        conditions[FINALITY_AT_HEAD] = (
            f"for {node.final_at_head_s / 60:.0f} minutes the nodes have called the newest block final: unless the "
            "chain is final at once, set chain.finality to a depth in blocks, or use other nodes"
        )
    if work is None or node.head_block is None:
        return conditions
    still_s = _seen_s(node.head_moved_ago_s, in_sight_s)
    usual_s = node.usual_interval_s
    if node.head_block < work.head_block:
        conditions[NODE_BEHIND] = f"the nodes show block {node.head_block}, and one had shown {work.head_block} before"
    elif usual_s and still_s > max(_STALLED_S, _STALLED_INTERVALS * usual_s):
        conditions[NODE_BEHIND] = (
            f"no new block for {node.head_moved_ago_s:.0f} s; one comes every {usual_s:.0f} s usually"
        )
    if _seen_s(node.final_left_behind_s, in_sight_s) > limits.slow_finality_s:
        minutes = node.final_left_behind_s / 60
        conditions[FINALITY_BEHIND] = (
            f"no block has become final for {minutes:.0f} minutes, the last is {work.final_block}"
        )
    return conditions


def _seen_s(age_s: float, in_sight_s: float | None) -> float:
    """Return how much of an age has passed while nodes answered."""
    return age_s if in_sight_s is None else min(age_s, in_sight_s)
