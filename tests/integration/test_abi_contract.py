"""The codec against the compiler: a contract encodes values of many shapes, and decodes what we encode."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio
from eth_hash.auto import keccak

from watcher.abi.decode import decode
from watcher.abi.encode import encode
from watcher.abi.grammar import parse_values
from watcher.abi.types import Tuple
from watcher.devnet.anvil import Anvil, AnvilOptions
from watcher.devnet.anvil_binary import find_anvil
from watcher.devnet.chain import Chain
from watcher.devnet.rpc import Rpc

CONTRACTS = Path(__file__).parents[1] / "contracts"
POINT = "tuple(int24,int256)"
ORDER = f"tuple(uint64,string,{POINT}[],bytes4,bool)"


def order(number: int) -> tuple[object, ...]:
    return number, "sell", [(-(2**23), -1), (2**23 - 1, 1)], bytes.fromhex("deadbeef"), number % 2 == 1


# Function -> its types, and the values that it encodes.
SHAPES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "numbers": (
        "(uint8,int8,int16,int256,uint256,int40,bool,bool)",
        (255, -128, -2, -(2**255), 2**256 - 1, -1, True, False),
    ),
    "fixedBytes": (
        "(bytes1,bytes3,bytes32,address)",
        (b"\xff", b"\1\2\3", keccak(b"whole"), "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"),
    ),
    "octets": ("(bytes,string,bytes,string)", (b"", "", b"\0", "größer als 32 Bytes, und über einem Wort hinaus")),
    "arrays": ("(int8[],int8[3],uint16[][],string[2])", ([], [-1, 0, 1], [[0, 7], [], [65535]], ["a", "b"])),
    "deep": ("(bytes[][2][])", ([[[b"\1\2\3"], []], [[], [b"", bytes(33)]]],)),
    "structs": (f"({ORDER}[],{POINT},{ORDER})", ([order(1), order(2)], (-3, 4), order(3))),
}


@dataclass(frozen=True)
class Contract:
    """The contract on a chain of its own."""

    chain: Chain
    address: str

    async def call(self, signature: str, argument: bytes | None = None) -> bytes:
        """Return the bytes that a function returns; its argument, if it takes one, is `bytes`, too."""
        data = keccak(signature.encode())[:4]
        data += b"" if argument is None else encode(kind_of("(bytes)"), (argument,))
        (encoded,) = decode(kind_of("(bytes)"), await self.chain.call(self.address, data))
        assert isinstance(encoded, bytes)
        return encoded


@pytest_asyncio.fixture
async def contract(tmp_path: Path) -> AsyncIterator[Contract]:
    async with AsyncExitStack() as stack:
        anvil = Anvil(await find_anvil(), AnvilOptions(mining="auto"), tmp_path / "anvil.log")
        await stack.enter_async_context(anvil)
        chain = Chain(Rpc(await stack.enter_async_context(aiohttp.ClientSession(trust_env=False)), anvil.http_url))
        code = bytes.fromhex(json.loads((CONTRACTS / "abi_shapes.json").read_text())["AbiShapes"][2:])
        made = await chain.run((await chain.accounts())[0], None, code)
        yield Contract(chain, str(made["contractAddress"]))


def kind_of(types: str) -> Tuple:
    return parse_values(types, "")[0]


async def test_values_are_encoded_as_the_compiler_does(contract: Contract) -> None:
    for name, (types, values) in SHAPES.items():
        encoded = await contract.call(f"{name}()")
        assert encode(kind_of(types), values).hex() == encoded.hex(), name
        assert decode(kind_of(types), encoded) == values, name
    for name in ("structs", "deep"):
        types, values = SHAPES[name]
        ours = encode(kind_of(types), values)
        assert await contract.call(f"{name}Again(bytes)", ours) == ours, "the contract reads what we write"


def test_artifact_is_of_the_source_beside_it() -> None:
    source = (CONTRACTS / "AbiShapes.sol").read_bytes()
    artifact = json.loads((CONTRACTS / "abi_shapes.json").read_text())
    assert artifact["source_sha256"] == hashlib.sha256(source).hexdigest(), "compile it with compile.mjs's settings"
