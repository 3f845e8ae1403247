"""The gRPC server: bounds, TLS, health, and a drain that fails nothing in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from kepler.client.constants import SERVER_OPTIONS
from kepler.core.errors import Unavailable

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class GrpcServer:
    """Serves the handlers at ``address`` until stopped.

    Parameters
    ----------
    address
        ``host:port``; port 0 takes a free one.
    credentials
        TLS, or None for loopback.
    """

    def __init__(
        self,
        address: str,
        handlers: Sequence[grpc.GenericRpcHandler],
        credentials: grpc.ServerCredentials | None,
        services: Sequence[str],
    ) -> None:
        self._address = address
        self._handlers = handlers
        self._credentials = credentials
        self._services = ("", *services)
        self._server: grpc.aio.Server | None = None
        self._health: HealthServicer | None = None

    async def start(self) -> str:
        """Bind and serve; gives ``host:port``. Health says NOT_SERVING until `ready`."""
        self._server = grpc.aio.server(options=list(SERVER_OPTIONS))
        self._server.add_generic_rpc_handlers(list(self._handlers))
        self._health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        await self._say(_NOT_SERVING)
        host = self._address.rpartition(":")[0]
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(self._address)
            else:
                port = self._server.add_secure_port(self._address, self._credentials)
        except RuntimeError as error:
            raise _cannot_listen(self._address) from error
        if port == 0:
            raise _cannot_listen(self._address)
        await self._server.start()
        return f"{host}:{port}"

    async def ready(self) -> None:
        await self._say(_SERVING)

    async def stop(self, grace_s: float) -> None:
        """NOT_SERVING first, then no new calls, then wait up to ``grace_s`` for those in flight."""
        if self._server is None:
            return
        await self._say(_NOT_SERVING)
        await asyncio.sleep(0)
        await self._server.stop(grace_s)

    async def _say(self, status: int) -> None:
        if self._health is not None:
            for service in self._services:
                await self._health.set(service, status)  # type: ignore[arg-type]


def _cannot_listen(address: str) -> Unavailable:
    return Unavailable(
        f"The service cannot listen on {address}",
        cause="The port is taken or the address is not this machine's.",
        fix="Stop what uses it, or choose another with --grpc HOST:PORT.",
    )
