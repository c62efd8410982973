"""A chain that tests only read, one for each file, and a relay to it for each test."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.node_rig import Relay, relaying, running_chain


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ten_blocks_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The URL of an anvil with ten empty blocks after the first. No test sends it a transaction."""
    async with running_chain(tmp_path_factory.mktemp("anvil")) as (chain, anvil):
        await chain.mine(10)
        yield anvil.http_url


@pytest.fixture
async def relay(ten_blocks_url: str) -> AsyncIterator[Relay]:
    async with relaying(ten_blocks_url) as relay:
        yield relay
