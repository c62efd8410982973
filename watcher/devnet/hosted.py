"""EMULATOR of AltLayer's hosted operator: its two JSON-RPC methods over HTTP with basic authentication.

It is not AltLayer's software and shares no code with it; it follows the public documentation and the behaviour of
public relatives. Every request is in the journal before it is answered. `POST /_emulator/faults` (JSON: one fault or a
list) makes it misbehave, `GET` lists what is in force, `DELETE` clears it.
"""

import base64
import hmac
import itertools
import random
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from eth_abi.exceptions import DecodingError

from watcher import files
from watcher.devnet.aggregator import Aggregator, Declined, Quorums, Round
from watcher.devnet.contract import decode_params_raw
from watcher.devnet.conventions import Convention
from watcher.devnet.delivery import deliver
from watcher.devnet.faults import Answer, Fault, FaultBook, Where
from watcher.devnet.journal import Journal
from watcher.devnet.rpc_server import ZERO_HASH, BadRequest, Call, Fields, declined, parse, refusal, success

BODY_LIMIT_BYTES = 1024 * 1024
FAULTS_PATH = "/_emulator/faults"
_PROXY, _OPERATOR, _CONFIG = "operator_createSigTaskResponse", "operator_createSigTask", "operator_getConfig"
# The generic operator takes any contract; the proxy is told of a message, and so knows the wizard's struct only.
_SERVED = {"proxy": (_PROXY, _OPERATOR), "operator": (_OPERATOR,)}


class HostedOperator:
    """The server. `faults` may be changed at any time from the same loop, or over HTTP from another process."""

    def __init__(
        self, aggregator: Aggregator, journal: Journal, username: str, password: str, *, seed: int = 0
    ) -> None:
        self.aggregator, self.journal = aggregator, journal
        self.faults = FaultBook(random.Random(seed))
        self.port = 0
        self._credentials = base64.b64encode(f"{username}:{password}".encode()).decode()
        self._numbers = itertools.count(1)
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def _convention(self) -> Convention:
        return self.aggregator.manager.convention

    async def start(self) -> None:
        """Listens; the first time on a free port unless one was set, later on the same one."""
        app = web.Application(client_max_size=BODY_LIMIT_BYTES)
        app.router.add_route("POST", FAULTS_PATH, self._add_faults)
        app.router.add_route("GET", FAULTS_PATH, self._list_faults)
        app.router.add_route("DELETE", FAULTS_PATH, self._clear_faults)
        app.router.add_route("*", "/{path:.*}", self._serve)
        # Hanging requests are a feature here: do not wait for them on the way out.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Connections are refused from now on. `start` opens the same port again; nothing is forgotten."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def restart(self) -> None:
        """Down, up, and nothing remembered: rounds, counter. The journal goes on."""
        await self.stop()
        self.aggregator.forget()
        await self.start()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        number = next(self._numbers)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return _page(413)
        if not self._authorised(request):
            await self.journal.write("received", request=number, path=request.path, authorised=False)
            return _page(401, {"WWW-Authenticate": 'Basic realm="hosted operator emulator"'})
        await self._record(number, request.path, body)
        before = self.faults.draw(Where.BEFORE)
        landing = None if before else self.faults.draw(Where.LANDING)
        after = None if before else self.faults.draw(Where.AFTER)
        accepted, answer = await self._answer(body, landing, execute=before is None)
        if fault := before or after:
            answer = fault.spoil(answer)
        names = [fault.kind for fault in (before, landing, after) if fault]
        await self.journal.write(
            "answered",
            request=number,
            accepted=accepted,
            status=answer.status,
            delivery=answer.delivery,
            faults=names,
            body=answer.body[:2000].decode(errors="replace"),
        )
        return await deliver(request, answer)

    async def _answer(self, body: bytes, landing: Fault | None, *, execute: bool) -> tuple[bool, Answer]:
        """Was it accepted, and what would an honest server answer? Not executed, it answers as if it had been."""
        try:
            call = parse(body)
            if call.method == _CONFIG:
                return False, success(call.id, {})
            if call.method not in _SERVED[self._convention.api]:
                raise BadRequest(404, 1, f"got unsupported method name: {call.method}", call.id)
            if not execute:
                return False, success(call.id, {"task_index": 0, "tx_hash": ZERO_HASH, "sig_hash": ZERO_HASH})
            opened = await (self._proxy if call.method == _PROXY else self._operator)(call, landing)
        except BadRequest as refused:
            return False, refusal(refused)
        except Declined as refused:
            return False, declined(call.id, refused, proxy=call.method == _PROXY)
        # There is no transaction yet, and no version of the real one was ever seen to wait for it: the hash is zero.
        result = {"task_index": opened.number, "tx_hash": ZERO_HASH, "sig_hash": "0x" + opened.digest.hex()}
        return True, success(call.id, result)

    async def _proxy(self, call: Call, landing: Fault | None) -> Round:
        fields = Fields(call)
        if fields.text("method") != self._convention.respond:
            raise BadRequest(400, 0, f"not found the method {fields.text('method')} in avs", call.id)
        return await self.aggregator.accept_answer(
            fields.uint32("task_index"),
            fields.uint32("task_created_block"),
            fields.hex_bytes("message"),
            fields.hex_bytes("resp_message"),
            landing,
        )

    async def _operator(self, call: Call, landing: Fault | None) -> Round:
        """As the generic one does it: the arguments pass through, and only the quorums asked for decide who signs."""
        fields = Fields(call)
        avs, method = fields.text("avs_name"), fields.text("method")
        if method != self._convention.respond:
            raise BadRequest(400, 1, f"not found the method {method} in avs {avs}", call.id)
        numbers, thresholds = fields.numbers("quorum_numbers"), fields.numbers("quorum_threshold_percentages")
        if not numbers or len(numbers) != len(thresholds):
            raise BadRequest(400, 3, "quorum_numbers and quorum_threshold_percentages differ in length", call.id)
        quorums = Quorums(bytes(numbers), thresholds, fields.uint32("reference_block_number"))
        digest = fields.hex_bytes("sig_hash", 32)
        try:
            task, index, resp_message = decode_params_raw(fields.hex_bytes("params_raw"), self._convention)
        except (DecodingError, OverflowError, ValueError) as error:
            text = f"failed to call req: unpack params {avs} method {method} failed: {error}"
            raise BadRequest(400, 1, text[:500], call.id) from error
        return await self.aggregator.accept_call(task, index, resp_message, digest, quorums, landing)

    async def _record(self, number: int, path: str, body: bytes) -> None:
        fields: dict[str, Any] = {"path": path, "authorised": True, "body": body[:20_000].decode(errors="replace")}
        try:
            call = parse(body)
            fields |= {"id": call.id, "method": call.method}
            if call.method == _PROXY and isinstance(call.params, dict):
                fields |= {name: call.params.get(name) for name in ("task_index", "resp_message")}
            elif call.method == _OPERATOR:
                _, index, message = decode_params_raw(Fields(call).hex_bytes("params_raw"), self._convention)
                fields |= {"task_index": index, "resp_message": "0x" + message.hex()}
        except (BadRequest, DecodingError, OverflowError, ValueError):
            fields["unreadable"] = True
        await self.journal.write("received", request=number, **fields)

    def _authorised(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Basic {self._credentials}".encode())

    async def _add_faults(self, request: web.Request) -> web.Response:
        if not self._authorised(request):
            return _page(401)
        try:
            given = files.parse(await request.read())
            faults = [Fault.from_json(one) for one in (given if isinstance(given, list) else [given])]
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        self.faults.add(*faults)
        return web.json_response([fault.to_json() for fault in self.faults.active])

    async def _list_faults(self, request: web.Request) -> web.Response:
        if not self._authorised(request):
            return _page(401)
        return web.json_response([fault.to_json() for fault in self.faults.active])

    async def _clear_faults(self, request: web.Request) -> web.Response:
        if not self._authorised(request):
            return _page(401)
        self.faults.clear()
        return web.json_response([])


def _page(status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    """As the gateway in front of the real one answers: HTML."""
    body = f"<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center></body></html>\r\n"
    return web.Response(status=status, text=body, content_type="text/html", headers=headers)
