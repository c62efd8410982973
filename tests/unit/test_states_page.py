"""docs/states.md: every state has its paragraph, and the drawing shows legal transitions alone."""

import re

from docs.generate.states import paragraphs_of_states, states_page
from watcher.state import ENDED, LEGAL, State


def test_every_state_says_who_enters_and_who_leaves_it() -> None:
    paragraphs = paragraphs_of_states()
    assert set(paragraphs) == set(State)
    for state, text in paragraphs.items():
        assert "\nEntered by " in text, state
        assert re.search(r"Left |Never left", text), state
        assert state in ENDED or "crash" in text, state


def test_the_drawing_shows_every_state_and_only_legal_transitions() -> None:
    drawing = states_page().partition("```mermaid")[2].partition("```")[0]
    arrows = re.findall(r"(\w+) --> (\w+)", drawing)
    assert len(arrows) > 15
    assert all(State(after) in LEGAL[State(before)] for before, after in arrows)
    assert {State(name) for arrow in arrows for name in arrow} >= set(State) - {State.EXPIRED, State.ORPHANED}
    assert all(f"{state} --> [*]" in drawing for state in ENDED)
