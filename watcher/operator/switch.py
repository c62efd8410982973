"""A sender whose client can be replaced while requests are under way."""

from dataclasses import dataclass

from watcher.operator.client import Client
from watcher.operator.probe import Probe
from watcher.operator.request import Request
from watcher.task import Refused, Sent


class Switch:
    """Sends with the present client. A replaced client is closed after its last request.

    None stands for an API that is not configured: nothing is sent there.
    """

    def __init__(self, client: Client | None) -> None:
        self._client = client
        self._busy: dict[int, int] = {}

    async def send(self, request: Request) -> Sent:
        """Send as `Client.send` does."""
        client = self._client
        if client is None:
            return Sent(Refused("not sent: the API was taken out of the configuration"), None, b"", 0)
        self._busy[id(client)] = self._busy.get(id(client), 0) + 1
        try:
            return await client.send(request)
        finally:
            self._busy[id(client)] -= 1
            if client is not self._client:
                await self._retire(client)

    async def probe(self) -> Probe | None:
        """Probe as `Client.probe` does; None without a client."""
        return None if self._client is None else await self._client.probe()

    async def tcp_probe(self) -> Probe | None:
        """Probe as `Client.tcp_probe` does; None without a client."""
        return None if self._client is None else await self._client.tcp_probe()

    async def replace(self, client: Client | None) -> None:
        """Send with this client from now on."""
        old, self._client = self._client, client
        if old is not None:
            await self._retire(old)

    async def aclose(self) -> None:
        """Close the present client."""
        if self._client is not None:
            await self._client.aclose()

    async def _retire(self, client: Client) -> None:
        if not self._busy.get(id(client)):
            self._busy.pop(id(client), None)
            await client.aclose()


@dataclass(frozen=True, slots=True)
class Switches:
    """The senders to [operator] and to [operator.direct], which may come and go."""

    main: Switch
    direct: Switch

    async def aclose(self) -> None:
        """Close both clients."""
        await self.main.aclose()
        await self.direct.aclose()
