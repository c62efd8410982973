"""One run of one side in a process of its own: `python -m bench.child SPEC_JSON`. Prints its measurement as JSON."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import Any

from eth_abi.codec import ABICodec
from eth_abi.registry import registry

from bench import naive, shim
from bench.run_spec import Measured, RunSpec
from watcher.chain.convention import abi
from watcher.errors import Quarantine


def _ingest(spec: RunSpec) -> Measured:
    from bench import ours

    return asyncio.run(ours.ingest(spec))


def _parts(spec: RunSpec) -> Measured:
    from bench import ours

    return asyncio.run(ours.parts(spec))


def _burst(spec: RunSpec) -> Measured:
    from bench import ours

    return asyncio.run(ours.burst(spec))


def _with_eth_abi(side: Callable[[RunSpec], Measured]) -> Callable[[RunSpec], Measured]:
    """Return a side that decodes with eth-abi alone, and does not check that the data are canonical."""
    codec = ABICodec(registry)

    def decode(self: abi.Codec, data: bytes) -> tuple[tuple[Any, ...], bytes]:
        try:
            return codec.decode(self.types, data), data
        except Exception as error:
            raise Quarantine("not the data of such a log") from error

    def run(spec: RunSpec) -> Measured:
        abi.Codec.decode = decode  # type: ignore[method-assign]
        return side(spec)

    return run


SIDES: Mapping[str, Callable[[RunSpec], Measured]] = {
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
    spec = RunSpec.from_json(sys.argv[1])
    shim.verify(spec.folder)
    print(SIDES[spec.side](spec).to_json())


if __name__ == "__main__":
    main()
