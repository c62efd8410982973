"""One run of one side in a process of its own: `python -m bench.child ORDER_JSON`. Prints what it measured."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import Any

from eth_abi.codec import ABICodec
from eth_abi.registry import registry

from bench import naive, shim
from bench.order import Measured, Order
from watcher.chain.convention import abi
from watcher.errors import Quarantine


def _ingest(order: Order) -> Measured:
    from bench import ours

    return asyncio.run(ours.ingest(order))


def _parts(order: Order) -> Measured:
    from bench import ours

    return asyncio.run(ours.parts(order))


def _burst(order: Order) -> Measured:
    from bench import ours

    return asyncio.run(ours.burst(order))


def _with_eth_abi(side: Callable[[Order], Measured]) -> Callable[[Order], Measured]:
    """The same, with eth-abi alone in place of our decoder. What it read counts as canonical without being encoded."""
    codec = ABICodec(registry)

    def decode(self: abi.Codec, data: bytes) -> tuple[tuple[Any, ...], bytes]:
        try:
            return codec.decode(self.types, data), data
        except Exception as error:
            raise Quarantine("not the data of such a log") from error

    def run(order: Order) -> Measured:
        abi.Codec.decode = decode  # type: ignore[method-assign]
        return side(order)

    return run


SIDES: Mapping[str, Callable[[Order], Measured]] = {
    "ours ingest": _ingest,
    "ours parts": _parts,
    "ours ingest, eth-abi": _with_eth_abi(_ingest),
    "ours parts, eth-abi": _with_eth_abi(_parts),
    "ours burst": _burst,
    "ours burst, default concurrency": _burst,
    "naive ingest": naive.ingest,
    "naive burst": naive.burst,
}


def main() -> None:
    order = Order.from_json(sys.argv[1])
    shim.verify(order.folder)
    print(SIDES[order.side](order).to_json())


if __name__ == "__main__":
    main()
