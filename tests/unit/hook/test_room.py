"""The room that the hooks of all AVSs share."""

from watcher.hook.room import Room


def test_room_is_given_in_the_order_of_asking() -> None:
    room, called = Room(2, 7), list[str]()
    assert room.crowd == 4
    assert room.take(lambda: called.append("never"))
    assert room.take(lambda: called.append("never"))

    def first() -> None:
        called.append("first")

    def second() -> None:
        called.append("second")

    assert not room.take(first)
    assert not room.take(second)
    assert not room.take(first)  # asked again: it keeps its place
    room.give_back()
    assert called == ["first"]
    assert room.take(first)
    room.give_back()
    assert called == ["first", "second"]


def test_room_for_all_workers_makes_no_crowd() -> None:
    assert Room(8, 4).crowd == 1
