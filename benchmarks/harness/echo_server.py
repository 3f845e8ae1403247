"""A bare gRPC server that sends back what it gets: what gRPC alone costs on this machine.

Reads the paths of certificate, key and client authority (or nothing) from its arguments, prints its address,
and ends when stdin closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc

from kepler.client.constants import SERVER_OPTIONS

ROOT = Path(__file__).resolve().parents[2]


async def stream(requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def one(request: bytes, context: object) -> bytes:
    return request


async def serve(files: list[str]) -> None:
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "bench.Echo",
                {
                    "Stream": grpc.stream_stream_rpc_method_handler(stream),
                    "One": grpc.unary_unary_rpc_method_handler(one),
                },
            ),
        )
    )
    if files:
        certificate, key, authority = (Path(file).read_bytes() for file in files)
        credentials = grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(1)


@contextlib.contextmanager
def echo_server(*files: str) -> Iterator[str]:
    """Address of an echo server in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.harness.echo_server", *files],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(10)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
