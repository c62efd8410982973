"""A performer of Hourglass that squares numbers. Prints its URL."""

import asyncio
from typing import Any

import grpc

from watcher.hook.protobuf import bytes_field, read_fields

_SERVICE = "eigenlayer.hourglass.v1.performer.PerformerService"
_SERVING = b"\x08\x01"


async def _execute(body: bytes, _context: Any) -> bytes:
    fields = read_fields(body)
    task_id, payload = fields[1], fields[2]
    assert isinstance(task_id, bytes) and isinstance(payload, bytes)
    number = int.from_bytes(payload, "big")
    return bytes_field(1, task_id) + bytes_field(2, (number * number % 2**256).to_bytes(32, "big"))


async def _health(_body: bytes, _context: Any) -> bytes:
    return _SERVING


async def main() -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server()
    services: dict[str, dict[str, Any]] = {
        _SERVICE: {"ExecuteTask": _execute},
        "grpc.health.v1.Health": {"Check": _health},
    }
    for name, methods in services.items():
        handlers = {method: grpc.unary_unary_rpc_method_handler(call) for method, call in methods.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"grpc://127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
