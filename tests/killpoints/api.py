"""The hosted operator's API, as small as it can be: one loop, no thread, so that the rig can fork beside it.

Every request is on the disk, and held against the ledger, before it is answered.
"""

import json
import os
import selectors
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.killpoints.ground import append

_UNRECORDED = """
SELECT t.response, a.id FROM tasks t JOIN attempts a ON a.task_id = t.id
WHERE t.task_index = ? AND t.state = 'sending' AND a.kind = 'post' AND a.ended_at_ms IS NULL
"""


class Api:
    """`wrongs`: what was sent and should not have been."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._pending: dict[socket.socket, bytes] = {}
        self.port = self._listener.getsockname()[1]
        self.turn_to(Path())

    def turn_to(self, folder: Path) -> None:
        """Another run begins."""
        self._folder = folder
        self._mined: set[tuple[int, str]] = set()
        self._pool: list[list[Any]] = []
        self.wrongs: list[str] = []
        self.hang_up()

    def mine(self) -> None:
        """A block with all answers since the last one."""
        append(self._folder, {"respond": self._pool})
        self._pool = []

    def hang_up(self) -> None:
        """Close what the dead have left open, read or not."""
        for connection in list(self._pending):
            self._drop(connection)

    def forked(self) -> None:
        """In the victim: these sockets are not its own."""
        self._listener.close()
        for connection in self._pending:
            connection.close()
        self._selector.close()

    def step(self, seconds: float) -> bool:
        """Serve what there is, or wait so long for it. True where something came."""
        ready = self._selector.select(seconds)
        for key, _ in ready:
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            if connection is self._listener:
                made, _ = self._listener.accept()
                made.setblocking(False)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._pending[made] = b""
                self._selector.register(made, selectors.EVENT_READ)
            else:
                self._receive(connection)
        return bool(ready)

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._pending[connection]
        connection.close()

    def _receive(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        self._pending[connection] += data
        head, gap, body = self._pending[connection].partition(b"\r\n\r\n")
        length = next((int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0)
        if not gap or len(body) < length:
            return
        self._pending[connection] = b""
        answer = json.dumps(self._serve(json.loads(body))).encode()
        lines = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
        try:
            connection.sendall(lines.encode() + answer)
        except OSError:
            self._drop(connection)

    def _serve(self, asked: dict[str, Any]) -> dict[str, Any]:
        what = asked["params"][0]
        index, answer = what["task_index"], what["resp_message"]
        handle = os.open(self._folder / "posts", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(handle, json.dumps([index, answer]).encode() + b"\n")
        os.fsync(handle)
        os.close(handle)
        self._hold(index, bytes.fromhex(answer[2:]))
        if (index, answer) not in self._mined:  # the aggregator brings a signature to the chain once
            self._mined.add((index, answer))
            self._pool.append([index, what["task_created_block"], what["message"][2:], answer[2:]])
        return {"jsonrpc": "2.0", "id": asked["id"], "result": {"tx_hash": "", "sig_hash": "", "task_index": index}}

    def _hold(self, index: int, answer: bytes) -> None:
        with closing(sqlite3.connect(f"file:{self._folder}/ledger.db?mode=ro", uri=True, timeout=5)) as ledger:
            rows = ledger.execute(_UNRECORDED, (index,)).fetchall()
        if not rows:
            self.wrongs.append(f"a POST for task {index} without an attempt in the ledger")
        elif rows[0][0] != answer:
            self.wrongs.append(f"a POST for task {index} with another answer than the ledger's")
