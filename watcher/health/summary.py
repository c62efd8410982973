"""The health of several AVSs as one, for the probes and the Node API of the whole process. Pure."""

from collections.abc import Mapping

from watcher.health.conditions import STOPPED
from watcher.health.verdict import Condition, Health, Service, Status


def combined(healths: Mapping[str, Health], absent: Mapping[str, str], at_ms: int) -> Health:
    """Return one health: a service is up where it is up for all, and down where it is down for all.

    Args:
        healths: the last evaluation of each AVS that runs, by name.
        absent: why each of the others does not run, by name.
        at_ms: the time of the evaluation, where no AVS has one.
    """
    by_id: dict[str, list[tuple[str, Service]]] = {}
    conditions = [Condition(STOPPED, f"{name}: {reason}", at_ms) for name, reason in absent.items()]
    for name, health in healths.items():
        for service in health.services:
            by_id.setdefault(service.id, []).append((name, service))
        conditions += [Condition(each.key, f"{name}: {each.message}", each.since_ms) for each in health.conditions]
        if not health.services:
            conditions.append(Condition(STOPPED, f"{name}: starting", at_ms))
    newest_ms = max((health.at_ms for health in healths.values()), default=at_ms)
    return Health(newest_ms, tuple(_merged(id_, seen) for id_, seen in by_id.items()), tuple(conditions))


def _merged(id_: str, seen: list[tuple[str, Service]]) -> Service:
    wrong = [(name, service) for name, service in seen if service.status is not Status.UP]
    if not wrong:
        return Service(id_, Status.UP, seen[0][1].message, max(service.since_ms for _, service in seen))
    name, first = wrong[0]
    is_down = all(service.status is Status.DOWN for _, service in seen)
    since_ms = min(service.since_ms for _, service in wrong)
    return Service(id_, Status.DOWN if is_down else Status.INITIALIZING, f"{name}: {first.message}", since_ms)
