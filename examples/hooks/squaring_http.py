"""The squaring hook as a service. Run it with `python3 squaring_http.py 8700`, then: target = "http://127.0.0.1:8700/"

A request is a POST; its verdict is the body of the reply. Standard library only; a service for many tasks uses a
framework.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CODE_VERSION = "squaring 1.0"


def respond(task: dict[str, Any]) -> dict[str, Any]:
    """Return the verdict on a task, whose fields docs/hook.schema.json lists."""
    message = bytes.fromhex(task["message"].removeprefix("0x"))
    if len(message) != 32:
        return {"verdict": "skip", "reason": f"the message is {len(message)} bytes long, not 32"}
    number = int.from_bytes(message, "big")
    return {"verdict": "answer", "response": "0x" + (number * number % 2**256).to_bytes(32, "big").hex()}


class Handler(BaseHTTPRequestHandler):
    """One connection, which carries one request after another."""

    protocol_version = "HTTP/1.1"
    # Head and body leave in one packet: two would wait for each other (Nagle's algorithm and delayed acknowledgements).
    wbufsize = -1

    def do_POST(self) -> None:
        """Answer one task."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            verdict = respond(request["task"])
        except Exception as error:  # noqa: BLE001  costs this task an attempt, instead of the connection
            verdict = {"verdict": "failed", "reason": repr(error)}
        body = json.dumps({"version": 1, "id": request["id"], "hook_version": CODE_VERSION, **verdict}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve on the port of the first argument, for this machine alone."""
    with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
        print(f"listening on http://127.0.0.1:{server.server_port}/", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
