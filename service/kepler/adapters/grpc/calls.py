"""One wrapper around every RPC: decoding, identity, capability, errors, metrics.

Servicers are plain async functions over decoded messages. Handlers are made from the service descriptors,
so that no RPC can be served without an entry in `CAPABILITIES`, and bytes are decoded here: what cannot be
decoded is INVALID_ARGUMENT, and an unexpected exception is INTERNAL with an opaque id, never its text.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from kepler.adapters.grpc.idle import IdleWatch
from kepler.client.errors import STATUS_METADATA, status_from_error
from kepler.core.errors import Denied, InternalError, InvalidInput, KeplerError, TimedOut, Unauthenticated
from kepler.ports.security import CAPABILITIES as ALL_CAPABILITIES
from kepler.ports.security import Principal, TokenStore

log = structlog.get_logger()

# What a caller must be able to do. "" asks for a valid token and nothing more.
CAPABILITIES: dict[str, str] = {
    "/kepler.v1.PredictionService/Predict": "predict",
    "/kepler.v1.PredictionService/PredictRows": "predict",
    "/kepler.v1.PredictionService/Score": "predict",
    "/kepler.v1.TrainingService/Train": "train",
    "/kepler.v1.TrainingService/ReadPredictions": "train",
    "/kepler.v1.TrainingService/ListAlgorithms": "",
    "/kepler.v1.JobService/GetJob": "predict",
    "/kepler.v1.JobService/ListJobs": "predict",
    "/kepler.v1.JobService/WatchJob": "predict",
    "/kepler.v1.JobService/CancelJob": "train",
    "/kepler.v1.ModelService/ListModels": "predict",
    "/kepler.v1.ModelService/GetModel": "predict",
    "/kepler.v1.ModelService/ListVersions": "predict",
    "/kepler.v1.ModelService/Summarize": "predict",
    "/kepler.v1.ModelService/DeleteModel": "train",
    "/kepler.v1.ModelService/SetAlias": "train",
    "/kepler.v1.ModelService/DeleteAlias": "train",
    "/kepler.v1.ModelService/Rollback": "train",
    "/kepler.v1.ModelService/ExportVersion": "predict",
    "/kepler.v1.ModelService/ImportVersion": "train",
    "/kepler.v1.ModelService/OptimizeVersion": "train",
    "/kepler.v1.HecService/GetSpool": "admin",
    "/kepler.v1.HecService/FlushSpool": "admin",
    "/kepler.v1.HecService/ListDeadLetters": "admin",
    "/kepler.v1.HecService/RetryDeadLetters": "admin",
    "/kepler.v1.HecService/DeleteDeadLetters": "admin",
    "/kepler.v1.DeployService/ListTargets": "",
    "/kepler.v1.DeployService/Plan": "deploy",
    "/kepler.v1.DeployService/Deploy": "deploy",
    "/kepler.v1.DeployService/ListDeployments": "deploy",
    "/kepler.v1.DeployService/GetDeployment": "deploy",
    "/kepler.v1.DeployService/Logs": "deploy",
    "/kepler.v1.DeployService/Traffic": "deploy",
    "/kepler.v1.DeployService/Rollback": "deploy",
    "/kepler.v1.DeployService/Delete": "deploy",
    "/kepler.v1.EdgeService/ListDevices": "deploy",
    "/kepler.v1.EdgeService/GetDevice": "deploy",
    "/kepler.v1.EdgeService/SetLabels": "deploy",
    "/kepler.v1.EdgeService/RevokeDevice": "admin",
    "/kepler.v1.EdgeService/CreateToken": "admin",
    "/kepler.v1.EdgeService/ListTokens": "admin",
    "/kepler.v1.EdgeService/RegisterCertificate": "admin",
    "/kepler.v1.EdgeService/ListRollouts": "deploy",
    "/kepler.v1.EdgeService/GetRollout": "deploy",
    "/kepler.v1.EdgeService/ChangeRollout": "deploy",
    "/kepler.v1.EdgeService/ListSteps": "deploy",
    "/kepler.v1.EdgeService/SendCommand": "deploy",
    "/kepler.v1.AuthService/IssueToken": "issue",
    "/kepler.v1.AuthService/WhoAmI": "",
}

_UPLOAD = "/kepler.v1.TrainingService/Train"
_RECHECK_S = 1.0  # a revoked token ends its streams within this time and one message
_CHECKED_MAX = 10_000

_principal: contextvars.ContextVar[Principal | None] = contextvars.ContextVar("principal", default=None)


class CallMetrics(Protocol):
    """Where finished calls are counted (adapters.telemetry)."""

    def call_finished(self, method: str, code: str, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class CallContext:
    """What every RPC needs around it. ``tokens`` is None on open loopback, where all callers may do all."""

    tokens: TokenStore | None
    metrics: CallMetrics | None
    stream_idle_s: float
    upload_idle_s: float
    _checked: dict[str, float] = field(default_factory=dict[str, float])

    def recheck(self, caller: Principal) -> None:
        """Raise `Unauthenticated` when the token of ``caller`` has ended; all its streams share one look."""
        now = time.monotonic()
        if self.tokens is None or now - self._checked.get(caller.token_id, -math.inf) <= _RECHECK_S:
            return
        self.tokens.recheck(caller)
        if len(self._checked) >= _CHECKED_MAX:
            self._checked.clear()
        self._checked[caller.token_id] = now


def principal() -> Principal:
    """The authenticated caller of the RPC being served."""
    current = _principal.get()
    if current is None:
        raise Unauthenticated("The call has no identity", fix="Send a token.")
    return current


OPEN = Principal(user="", capabilities=frozenset(ALL_CAPABILITIES))


def _authenticate(
    calls: CallContext, context: grpc.aio.ServicerContext[Any, Any], capability: str
) -> Principal:
    if calls.tokens is None:
        return OPEN
    header = ""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            header = value if isinstance(value, str) else value.decode("latin-1")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated(
            "The call carries no token",
            fix="Set KEPLER_TOKEN, or store the installation token in the app's configuration.",
        )
    caller = calls.tokens.authenticate(token.strip())
    if capability and not caller.can(capability):
        raise Denied(
            f"{caller.user or 'The caller'} may not do this: the capability {capability!r} is missing",
            fix=f"Ask an administrator for the role with kepler_{capability}, or use another token.",
        )
    return caller


def _decode(kind: type[Message], data: bytes) -> Message:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidInput(
            "The request is not a message this service knows", fix="Use a client of the same API version."
        ) from error


async def _fail(context: grpc.aio.ServicerContext[Any, Any], method: str, error: BaseException) -> None:
    """Abort the call with ``error``. Raises grpc's AbortError."""
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        error = TimedOut("The client sent nothing for too long", fix="Run the search again.")
    if not isinstance(error, KeplerError):
        error_id = uuid.uuid4().hex[:12]
        log.error("rpc.failed", method=method, error_id=error_id, exc_info=error)
        error = InternalError(
            f"The service failed unexpectedly (error {error_id})",
            fix=f"Look for {error_id} in the service's log.",
        )
    code, status = status_from_error(error)
    await context.abort(code, status.message, ((STATUS_METADATA, status.SerializeToString()),))


def _wrap(calls: CallContext, path: str, method: MethodDescriptor, implementation: Callable[..., Any]) -> Any:
    capability = CAPABILITIES[path]
    idle_s = calls.upload_idle_s if path == _UPLOAD else calls.stream_idle_s
    request_type = GetMessageClass(method.input_type)

    async def requests(iterator: AsyncIterator[bytes]) -> AsyncGenerator[Message, None]:
        stream = iterator.__aiter__()
        caller = principal()
        idle = IdleWatch(idle_s)
        try:
            while True:
                idle.begin()
                try:
                    data = await anext(stream)
                except StopAsyncIteration:
                    return
                except asyncio.CancelledError:
                    idle.check()
                    raise
                idle.end()
                calls.recheck(caller)
                yield _decode(request_type, data)
        finally:
            idle.close()

    def finished(started: float, code: str) -> None:
        if calls.metrics is not None:
            calls.metrics.call_finished(path, code, time.monotonic() - started)

    def invoke(request_or_iterator: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        """Call the implementation as the authenticated caller; gives its responses or what awaits its one."""
        _principal.set(_authenticate(calls, context, capability))
        if method.client_streaming:
            return implementation(requests(request_or_iterator))
        return implementation(_decode(request_type, request_or_iterator))

    async def unary(request_or_iterator: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
        started, code = time.monotonic(), "OK"
        try:
            return await cast(Awaitable[Message], invoke(request_or_iterator, context))
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception as error:
            code = _code_name(error)
            await _fail(context, path, error)
            raise
        finally:
            finished(started, code)

    async def stream(
        request_or_iterator: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Message]:
        started, code = time.monotonic(), "OK"
        responses: AsyncGenerator[Message, None] | None = None
        try:
            responses = cast(AsyncGenerator[Message, None], invoke(request_or_iterator, context))
            async for response in responses:
                yield response
        except (asyncio.CancelledError, GeneratorExit):
            code = "CANCELLED"
            raise
        except Exception as error:
            code = _code_name(error)
            await _fail(context, path, error)
            raise
        finally:
            if responses is not None:
                # At once when the caller goes away: an upload must drop its spool now, not at collection.
                await responses.aclose()
            finished(started, code)

    handler = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[method.client_streaming, method.server_streaming]
    behaviour = stream if method.server_streaming else unary
    return handler(
        behaviour, request_deserializer=None, response_serializer=lambda message: message.SerializeToString()
    )


def _code_name(error: BaseException) -> str:
    if isinstance(error, KeplerError):
        return status_from_error(error)[0].name
    return "DEADLINE_EXCEEDED" if isinstance(error, (TimeoutError, asyncio.TimeoutError)) else "INTERNAL"


def handlers(service: ServiceDescriptor, servicer: object, calls: CallContext) -> grpc.GenericRpcHandler:
    """Generic handler for all methods of ``service``, implemented by the same-named methods of ``servicer``."""
    table: dict[str, Any] = {}
    for method in service.methods:
        path = f"/{service.full_name}/{method.name}"
        table[method.name] = _wrap(calls, path, method, getattr(servicer, method.name))
    return grpc.method_handlers_generic_handler(service.full_name, table)
