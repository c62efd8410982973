"""Every uint256 has one stored form, and stored forms sort as the numbers do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from watcher.ledger.columns import Uint256

NUMBERS = st.one_of(
    st.integers(0, 2**256 - 1),
    st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**255, 2**256 - 1]),
)
DIALECTS: list[Dialect] = [sqlite.dialect(), postgresql.dialect()]  # type: ignore[no-untyped-call]
TYPE = Uint256()


def sqlite_order(stored: Any) -> tuple[int, Any]:
    """How SQLite sorts: every INTEGER before every BLOB, blobs byte by byte."""
    return (1, stored) if isinstance(stored, bytes) else (0, stored)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@given(number=NUMBERS)
def test_every_number_comes_back(dialect: Dialect, number: int) -> None:
    assert TYPE.result_processor(dialect, None)(TYPE.process_bind_param(number, dialect)) == number


@given(left=NUMBERS, right=NUMBERS)
def test_what_sqlite_stores_sorts_as_a_number(left: int, right: int) -> None:
    first, second = (sqlite_order(TYPE.process_bind_param(value, DIALECTS[0])) for value in (left, right))
    assert (first < second) == (left < right)
    assert (first == second) == (left == right)


@given(number=st.integers(0, 2**63 - 1))
def test_what_fits_is_an_ordinary_integer(number: int) -> None:
    assert TYPE.process_bind_param(number, DIALECTS[0]) == number


@given(number=st.integers(2**63, 2**256 - 1))
def test_what_does_not_fit_is_32_bytes(number: int) -> None:
    stored = TYPE.process_bind_param(number, DIALECTS[0])
    assert isinstance(stored, bytes) and len(stored) == 32


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@given(number=st.one_of(st.integers(max_value=-1), st.integers(min_value=2**256)))
def test_what_is_no_uint256_is_refused(dialect: Dialect, number: int) -> None:
    with pytest.raises(ValueError, match="not an unsigned 256-bit integer"):
        TYPE.process_bind_param(number, dialect)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_nothing_stays_nothing(dialect: Dialect) -> None:
    assert TYPE.process_bind_param(None, dialect) is None
    assert TYPE.result_processor(dialect, None)(None) is None
