"""The `[chain]` tables of docs/chains.md are settings that load as they stand."""

import re
from pathlib import Path

import pytest

from watcher.settings import load

PAGE = Path(__file__).parents[2] / "docs" / "chains.md"
REST = """
[task_manager]
address = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
start_block = 0

[hook]
target = "squaring:respond"

[operator]
api = "none"
"""


def test_every_kind_of_chain_has_a_table() -> None:
    assert [name for name in re.findall(r"^## (.+)$", PAGE.read_text(), re.M) if "?" not in name] == [
        "Ethereum mainnet",
        "OP stack",
        "Arbitrum and Orbit",
        "ZKsync and its kind",
        "Chains without finality tags",
    ]
    assert len(re.findall(r"^\[chain\]$", PAGE.read_text(), re.M)) == 5


@pytest.mark.parametrize("table", re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(), re.M | re.S))
def test_table_loads_through_the_settings(table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    config = tmp_path / "watcher.toml"
    config.write_text(table + REST)
    chain = load.load(config).chain
    assert chain.quorum == 2
    assert len(chain.http_urls) == 2
    assert chain.confirmations > 0
    if isinstance(chain.finality, int):
        assert chain.finality > chain.confirmations


def test_readme_links_the_page() -> None:
    assert "docs/chains.md" in (PAGE.parents[1] / "README.md").read_text()
