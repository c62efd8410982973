"""A condition is reported when it begins and when it ends, however often it is met in between."""

from watcher.once import Lasting, LineBudget, Once


def test_condition_begins_once_and_ends_once() -> None:
    down = Once()
    assert not down.ends("a")
    assert [down.begins("a"), down.begins("a"), down.begins("b")] == [True, False, True]
    assert [down.ends("a"), down.ends("a")] == [True, False]
    assert down.begins("a")


def test_no_more_conditions_than_the_limit_are_reported() -> None:
    once = Once(limit=2)
    assert [once.begins(key) for key in (1, 2, 3)] == [True, True, False]
    once.forget()
    assert [once.begins(key) for key in (3, 3)] == [True, False]


def test_lasting_condition_begins_in_the_second_pass_that_meets_it() -> None:
    holes: Lasting[int] = Lasting()
    assert holes.update({1, 2}) == (set(), set())
    assert holes.update({2, 3}) == ({2}, set())
    assert holes.update({2, 3}) == ({3}, set())
    assert holes.update(set()) == (set(), {2, 3})
    assert holes.update({2}) == (set(), set())


def test_line_budget_is_whole_again_after_a_minute() -> None:
    now_s = 10.0
    budget = LineBudget(lambda: now_s, per_minute=3)
    assert [budget.take(), budget.take(4), budget.take()] == [1, 2, 0]
    now_s += 59.9
    assert budget.take() == 0
    now_s += 0.1
    assert [budget.take(2), budget.take(2)] == [2, 1]
