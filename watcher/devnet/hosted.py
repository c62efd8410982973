"""EMULATOR of AltLayer's hosted operator: its two JSON-RPC methods over HTTP with basic authentication.

It is not AltLayer's software and shares no code with it; it follows the public documentation and the behaviour of
public relatives. Every request is in the journal before its reply is sent. `POST /_emulator/faults` (JSON: one fault or
a list) adds faults, `GET` lists them, `DELETE` clears them.
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
from watcher.devnet.faults import Answer, Fault, FaultQueue, Where
from watcher.devnet.journal import Journal
from watcher.devnet.rpc_server import ZERO_HASH, BadRequest, Call, Fields, declined, parse_call, refusal, success

BODY_LIMIT_BYTES = 1024 * 1024
FAULTS_PATH = "/_emulator/faults"
_PROXY, _OPERATOR, _CONFIG = "operator_createSigTaskResponse", "operator_createSigTask", "operator_getConfig"
# The operator API serves any contract; the proxy builds the struct from a message, so it serves only the wizard's.
_SERVED = {"proxy": (_PROXY, _OPERATOR), "operator": (_OPERATOR,)}


class HostedOperator:
    """The server. `faults` may change at any time: from the same event loop, or over HTTP."""

    def __init__(
        self, aggregator: Aggregator, journal: Journal, username: str, password: str, *, seed: int = 0
    ) -> None:
        self.aggregator, self.journal = aggregator, journal
        self.faults = FaultQueue(random.Random(seed))
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
        """Listen: on `port`, or the first time on a free one if that is 0."""
        app = web.Application(client_max_size=BODY_LIMIT_BYTES)
        app.router.add_route("POST", FAULTS_PATH, self._add_faults)
        app.router.add_route("GET", FAULTS_PATH, self._list_faults)
        app.router.add_route("DELETE", FAULTS_PATH, self._clear_faults)
        app.router.add_route("*", "/{path:.*}", self._serve)
        # Some requests hang on purpose: do not wait for them.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Refuse connections. `start` opens the same port again; rounds and counter stay."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def restart(self) -> None:
        """Stop and start, and lose rounds and counter. The journal continues."""
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
        chain_fault = None if before else self.faults.draw(Where.ON_CHAIN)
        after = None if before else self.faults.draw(Where.AFTER)
        accepted, answer = await self._answer(body, chain_fault, execute=before is None)
        if fault := before or after:
            answer = fault.spoil(answer)
        names = [fault.kind for fault in (before, chain_fault, after) if fault]
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

    async def _answer(self, body: bytes, chain_fault: Fault | None, *, execute: bool) -> tuple[bool, Answer]:
        """Return whether the request is accepted, and the correct reply.

        Without `execute` no work is done, and the reply is the one of an accepted request.
        """
        try:
            call = parse_call(body)
            if call.method == _CONFIG:
                return False, success(call.id, {})
            if call.method not in _SERVED[self._convention.api]:
                raise BadRequest(404, 1, f"got unsupported method name: {call.method}", call.id)
            if not execute:
                return False, success(call.id, {"task_index": 0, "tx_hash": ZERO_HASH, "sig_hash": ZERO_HASH})
            round_ = await (self._proxy if call.method == _PROXY else self._operator)(call, chain_fault)
        except BadRequest as error:
            return False, refusal(error)
        except Declined as error:
            return False, declined(call.id, error, proxy=call.method == _PROXY)
        # There is no transaction yet, and the real API does not wait for it either: the hash is zero.
        result = {"task_index": round_.number, "tx_hash": ZERO_HASH, "sig_hash": "0x" + round_.digest.hex()}
        return True, success(call.id, result)

    async def _proxy(self, call: Call, chain_fault: Fault | None) -> Round:
        fields = Fields(call)
        if fields.text("method") != self._convention.respond:
            raise BadRequest(400, 0, f"not found the method {fields.text('method')} in avs", call.id)
        return await self.aggregator.accept_answer(
            fields.uint32("task_index"),
            fields.uint32("task_created_block"),
            fields.hex_bytes("message"),
            fields.hex_bytes("resp_message"),
            chain_fault,
        )

    async def _operator(self, call: Call, chain_fault: Fault | None) -> Round:
        """Open a round for the operator API: the arguments pass through, and the named quorums decide who signs."""
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
        return await self.aggregator.accept_call(task, index, resp_message, digest, quorums, chain_fault)

    async def _record(self, number: int, path: str, body: bytes) -> None:
        fields: dict[str, Any] = {"path": path, "authorised": True, "body": body[:20_000].decode(errors="replace")}
        try:
            call = parse_call(body)
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
        header = request.headers.get("Authorization", "")
        return hmac.compare_digest(header.encode(), f"Basic {self._credentials}".encode())

    async def _add_faults(self, request: web.Request) -> web.Response:
        if not self._authorised(request):
            return _page(401)
        try:
            body = files.parse(await request.read())
            faults = [Fault.from_json(item) for item in (body if isinstance(body, list) else [body])]
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
    """Return a page in HTML, as the gateway in front of the real API sends it."""
    body = f"<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center></body></html>\r\n"
    return web.Response(status=status, text=body, content_type="text/html", headers=headers)
