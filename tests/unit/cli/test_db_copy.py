"""The addresses that `watcher db copy` takes."""

import pytest

from watcher.cli.db_copy import copy
from watcher.errors import FixUsage


@pytest.mark.parametrize(
    "address",
    ["", "watcher.db", "sqlite:watcher.db", "sqlite://", "mysql://u:geheim@h/x", "postgresql://u:geheim@h:port/x"],
)
@pytest.mark.parametrize("argument", ["SOURCE", "TARGET"])
def test_address_of_no_ledger_is_refused_without_its_password(address: str, argument: str) -> None:
    other = "sqlite:////nowhere/watcher.db"
    sides = (address, other) if argument == "SOURCE" else (other, address)
    with pytest.raises(FixUsage, match=argument) as refused:
        copy(*sides)
    assert "geheim" not in str(refused.value)
