"""The traceback of a hook's error: from the author's first frame on, with the causes, and never an error of its own."""

import importlib

import pytest

from watcher.hook.tracebacks import own_traceback


def caught(source: str, name: str = "author") -> BaseException:
    """Return the error that a module of the author's raises."""
    try:
        exec(compile(source, f"/srv/{name}.py", "exec"), {"__name__": name})
    except BaseException as error:
        error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None
        return error
    raise AssertionError("nothing was raised")


def test_causes_are_shown_from_the_authors_frames_on() -> None:
    text = own_traceback(caught("try:\n  {}[3]\nexcept KeyError as error:\n  raise ValueError('wrong') from error\n"))
    assert text.startswith('Traceback (most recent call last):\n  File "/srv/author.py", line 2')
    assert "KeyError: 3" in text and text.endswith("ValueError: wrong")


def test_frames_of_the_watcher_are_left_out() -> None:
    error = caught("raise RuntimeError('ours')", "watcher.hook.worker")
    assert own_traceback(error) == ""


def test_frames_of_the_import_machinery_are_left_out() -> None:
    with pytest.raises(ModuleNotFoundError) as failed:
        importlib.import_module("no_such_module_at_all")
    assert failed.value.__traceback__ is not None
    failed.value.__traceback__ = failed.value.__traceback__.tb_next  # without the frame of this test
    assert own_traceback(failed.value) == ""


def test_error_that_cannot_be_shown_is_no_error() -> None:
    hostile = "class Odd(Exception):\n  def __str__(self): raise SystemExit(1)\nraise Odd"
    assert "Odd" in own_traceback(caught(hostile))


def test_deep_recursion_is_bounded() -> None:
    text = own_traceback(caught("def f(n):\n  return f(n + 1) + g(n)\ndef g(n): return n\nf(0)"))
    assert len(text) < 65_536 and text.endswith("RecursionError: maximum recursion depth exceeded")
