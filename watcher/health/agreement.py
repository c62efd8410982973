"""What is wrong with the nodes' evidence: they contradict each other, or call the head itself final.

Pure, as `watcher.health.verdict` is, which asks it.
"""

from watcher.health.readings import FINALITY_AT_HEAD, NODES_DISAGREE, Limits, NodeSeen


def evidence_dangers(node: NodeSeen, limits: Limits) -> dict[str, str]:
    """Return the words for each key of `TROUBLES` that holds now."""
    wrong: dict[str, str] = {}
    if node.disagreement and node.disagreeing_s >= limits.disagreeing_s:
        wrong[NODES_DISAGREE] = f"the endpoints of chain.rpc_urls contradict each other: {node.disagreement}"
    if node.final_at_head_s >= limits.final_at_head_s:
        wrong[FINALITY_AT_HEAD] = (
            f"for {node.final_at_head_s / 60:.0f} minutes the nodes have called the newest block final: unless the "
            "chain is final at once, set chain.finality to a depth in blocks, or use other nodes"
        )
    return wrong
