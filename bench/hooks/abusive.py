"""A hook that answers numbers with their squares, and misbehaves on demand; for each of the four ways.

A message of 32 bytes is a number; any other names a fault. `abusive.py exec|http|grpc` is a program or a service.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("raise", "hang", "flood", "type", "exit", "fork", "leak", "garbage")
_FLOOD_BYTES = 5_000_000
_LEAK_BYTES = 20_000_000
_LEAKED: list[bytearray] = []


def square(message: bytes) -> bytes:
    """Return the square of a number of 32 bytes."""
    number = int.from_bytes(message, "big")
    return (number * number % 2**256).to_bytes(32, "big")


def misbehave(fault: str) -> bytes:
    """Do what a fault does in every way alike, and return an answer if there is one."""
    match fault:
        case "raise":
            raise ValueError("bad")
        case "hang":
            time.sleep(600)
        case "fork":
            subprocess.Popen(
                ["sleep", "30"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        case "leak":
            _LEAKED.append(bytearray(_LEAK_BYTES))
        case "flood":
            for _ in range(_FLOOD_BYTES // 100_000):
                print("y" * 100_000)
    return fault.encode()


def respond(task: Any) -> Any:
    """Answer a task: the hook of the way `module`."""
    if len(task.message) == 32:
        return square(task.message)
    match fault := task.message.decode():
        case "exit":
            os._exit(3)
        case "type":
            return "text"
        case "garbage":
            return object()
        case _:
            return misbehave(fault)


def _verdict(request: dict[str, Any]) -> dict[str, Any]:
    message = bytes.fromhex(request["task"]["message"][2:])
    common = {"version": 1, "id": request["id"]}
    if len(message) == 32:
        return {**common, "verdict": "answer", "response": "0x" + square(message).hex()}
    if message == b"type":
        return {**common, "verdict": "answer", "response": 5}
    try:
        return {**common, "verdict": "answer", "response": "0x" + misbehave(message.decode()).hex()}
    except ValueError as error:
        return {**common, "verdict": "failed", "reason": str(error)}


def run_program() -> None:
    """Answer requests as a program does (`exec:`)."""
    with open(3) as requests, open(4, "w") as replies:
        for line in requests:
            request = json.loads(line)
            fault = bytes.fromhex(request["task"]["message"][2:])
            if fault == b"exit":
                os._exit(3)
            print("nonsense" if fault == b"garbage" else json.dumps(_verdict(request)), file=replies, flush=True)


class Service(BaseHTTPRequestHandler):
    """The hook as a service."""

    protocol_version = "HTTP/1.1"
    # One write for head and body: the second of two waits for the acknowledgement of the first, which takes 40 ms.
    wbufsize = -1

    def do_POST(self) -> None:
        """Reply to a request, or do not."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = bytes.fromhex(request["task"]["message"][2:])
        if fault == b"exit":
            self.close_connection = True
            return
        body = b"\xff\x00nonsense" if fault == b"garbage" else json.dumps(_verdict(request)).encode()
        if fault == b"flood":
            body += b" " * _FLOOD_BYTES
        self.send_response(500 if fault == b"raise" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Keep quiet."""


def run_service() -> None:
    """Serve requests (`http://`); prints the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.request_queue_size = 128
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    server.serve_forever()


async def run_performer() -> None:
    """Serve calls of a Hourglass executor (`grpc://`); prints the URL."""
    import grpc

    from watcher.hook.protobuf import bytes_field, read_fields

    async def execute(body: bytes, context: Any) -> bytes:
        fields = read_fields(body)
        task_id, payload = fields[1], fields[2]
        assert isinstance(task_id, bytes) and isinstance(payload, bytes)
        if len(payload) == 32:
            return bytes_field(1, task_id) + bytes_field(2, square(payload))
        match fault := payload.decode():
            case "exit":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            case "hang":
                await asyncio.sleep(600)
            case "type":
                return b"\x10\x07"
            case "garbage":
                return b"\xff" * 20
            case "flood":
                return bytes_field(1, task_id) + bytes_field(2, bytes(_FLOOD_BYTES))
        return bytes_field(1, task_id) + bytes_field(2, misbehave(fault))

    async def health(_body: bytes, _context: Any) -> bytes:
        return b"\x08\x01"

    server = grpc.aio.server()
    services: dict[str, dict[str, Any]] = {
        "eigenlayer.hourglass.v1.performer.PerformerService": {"ExecuteTask": execute},
        "grpc.health.v1.Health": {"Check": health},
    }
    for name, methods in services.items():
        handlers = {method: grpc.unary_unary_rpc_method_handler(call) for method, call in methods.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"grpc://127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    match sys.argv[1]:
        case "exec":
            run_program()
        case "http":
            run_service()
        case "grpc":
            asyncio.run(run_performer())
