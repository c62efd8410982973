"""The size of a group follows from the pace of the hook."""

from watcher.hook.pace import Pace


def test_first_group_holds_one_run() -> None:
    assert Pace().group_size == 1


def test_quick_runs_travel_in_large_groups() -> None:
    pace = Pace()
    pace.add(40)
    assert pace.group_size == 32


def test_a_group_takes_about_20_ms() -> None:
    pace = Pace()
    pace.add(4_000)
    assert pace.group_size == 5


def test_slow_runs_travel_alone() -> None:
    pace = Pace()
    pace.add(30_000_000)
    assert pace.group_size == 1


def test_one_slow_run_makes_groups_small_for_dozens_of_runs_only() -> None:
    pace = Pace()
    pace.add(40)
    pace.add(30_000_000)
    sizes = []
    for _ in range(60):
        pace.add(40)
        sizes.append(pace.group_size)
    assert sizes[:20] == [1] * 20
    assert sizes[-1] == 32


def test_a_clock_without_resolution_is_no_error() -> None:
    pace = Pace()
    pace.add(0)
    assert pace.group_size == 32


def test_few_tasks_are_claimed_ahead_of_slow_runs() -> None:
    claimed = []
    for duration_us in (40, 4_000, 50_000, 100_000, 60_000_000):
        pace = Pace()
        pace.add(duration_us)
        claimed.append(pace.ahead)
    assert Pace().ahead == 1
    assert claimed == [32, 8, 8, 4, 1]
