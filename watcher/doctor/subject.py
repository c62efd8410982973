"""The contract under examination."""

from dataclasses import dataclass

from watcher.chain.contract import TaskManager
from watcher.chain.rpc.nodes import NodePool
from watcher.settings import model
from watcher.task import Header


@dataclass(frozen=True, slots=True)
class Subject:
    """One contract at one head, with the sections [chain] and [task_manager] it is compared with."""

    nodes: NodePool
    contract: TaskManager
    head: Header
    chain: model.Chain
    section: model.TaskManager
