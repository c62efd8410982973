"""The room that the hooks of all AVSs share."""

from watcher.hook.room import Room


def test_room_is_given_in_the_order_of_asking() -> None:
    room, called = Room(2, 7, 30.0), list[str]()
    assert room.take(lambda: called.append("never"))
    assert room.take(lambda: called.append("never"))

    def first() -> None:
        called.append("first")
        assert room.take(first)
        assert not room.take(first)  # it needs room for one more, and gets behind the other

    def second() -> None:
        called.append("second")
        assert room.take(second)

    assert not room.take(first)
    assert not room.take(second)
    assert not room.take(first)  # asked again: it keeps its place
    room.give_back()
    assert called == ["first"]
    room.give_back()
    assert called == ["first", "second"]


def test_one_that_needs_no_room_any_more_leaves_it_to_the_next() -> None:
    room, called = Room(1, 4, 30.0), list[str]()
    assert room.take(lambda: called.append("never"))

    def ended() -> None:
        called.append("ended")

    def waiting() -> None:
        called.append("waiting")
        assert room.take(waiting)

    assert not room.take(ended)
    assert not room.take(waiting)
    room.give_back()
    assert called == ["ended", "waiting"]


def test_the_longest_wait_counts_the_turns_of_all_pools() -> None:
    assert Room(2, 7, 30.0).longest_s(3) == 30 * 3 * 4
    assert Room(8, 4, 30.0).longest_s(3) == 30 * 3
