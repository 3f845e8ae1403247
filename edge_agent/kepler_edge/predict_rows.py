"""One call of the service, `PredictRows`, for a device that asks for a second opinion.

``proto/kepler/v1/prediction.proto`` is the contract; only the part that is used is described here, so that no code of the
service is shipped. Needs ``kepler-edge[edgehub]`` for gRPC.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from kepler_edge.errors import InvalidInput, KeplerError, Unavailable

METHOD = "/kepler.v1.PredictionService/PredictRows"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_KINDS = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "kepler.v1"
# Message: (field, number, protobuf type, repeated, message type); a test compares them with the .proto.
MESSAGES: dict[str, tuple[tuple[str, int, int, bool, str], ...]] = {
    "Caller": (("app", 2, _KINDS.TYPE_STRING, False, ""),),
    "PredictOptions": (("probabilities", 1, _KINDS.TYPE_BOOL, False, ""),),
    "PredictOpened": (
        ("model", 1, _KINDS.TYPE_STRING, False, ""),
        ("output_columns", 4, _KINDS.TYPE_STRING, True, ""),
    ),
    "Scored": (("rows", 1, _KINDS.TYPE_UINT64, False, ""), ("values", 2, _KINDS.TYPE_BYTES, False, "")),
    "PredictRowsRequest": (
        ("caller", 1, _KINDS.TYPE_MESSAGE, False, "Caller"),
        ("model", 2, _KINDS.TYPE_STRING, False, ""),
        ("columns", 3, _KINDS.TYPE_STRING, True, ""),
        ("rows", 4, _KINDS.TYPE_BYTES, False, ""),
        ("options", 5, _KINDS.TYPE_MESSAGE, False, "PredictOptions"),
    ),
    "PredictRowsResponse": (
        ("opened", 1, _KINDS.TYPE_MESSAGE, False, "PredictOpened"),
        ("scored", 2, _KINDS.TYPE_MESSAGE, False, "Scored"),
    ),
}


@cache
def message(name: str) -> Any:
    """The class of a message, in a pool of its own."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="predict_rows.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        made = file.message_type.add(name=name)
        for field, number, kind, many, of in fields:
            label = _KINDS.LABEL_REPEATED if many else _KINDS.LABEL_OPTIONAL
            added = made.field.add(name=field, number=number, label=label)
            added.type = kind  # type: ignore[assignment]
            if of:
                added.type_name = f".{_PACKAGE}.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # pyright: ignore[reportUnknownMemberType]
    return pool


class PredictService:
    """Asks the service to score one reading.

    Parameters
    ----------
    address
        ``host:port`` of its gRPC listener. TLS, but for this machine's own without ``ca_file``.
    token_file
        Holds a token that may predict; read anew for each call, so that it may be exchanged. Empty: none.
    cert_file, key_file
        The device's certificate, for services that ask for one.
    """

    def __init__(
        self,
        address: str,
        *,
        ca_file: str = "",
        cert_file: str = "",
        key_file: str = "",
        token_file: str = "",
    ) -> None:
        host = address.rpartition(":")[0]
        if not host:
            raise InvalidInput(f"{address[:100]!r} is not HOST:PORT", fix="Use service.plant:8790.")
        self._token_file = token_file
        if host in _LOOPBACK and not ca_file:
            self._channel: Any = grpc.insecure_channel(address)
        else:
            self._channel = grpc.secure_channel(
                address,
                grpc.ssl_channel_credentials(_pem(ca_file), _pem(key_file), _pem(cert_file)),
            )
        self._call: Any = self._channel.unary_unary(
            METHOD, request_serializer=_bytes, response_deserializer=message("PredictRowsResponse").FromString
        )

    def ask(
        self, model: str, fields: Mapping[str, object], *, probabilities: bool, timeout_s: float
    ) -> tuple[str, dict[str, str]]:
        """Full name of the version that answered, and its outputs as text.

        Raises
        ------
        Unavailable
            No answer within ``timeout_s``.
        KeplerError
            The service refuses.
        """
        row = io.StringIO()
        csv.writer(row, lineterminator="\n").writerow([_cell(value) for value in fields.values()])
        request = message("PredictRowsRequest")(
            model=model, columns=list(fields), rows=row.getvalue().encode(),
            options={"probabilities": probabilities}, caller={"app": "search"},
        )  # fmt: skip
        try:
            answer = self._call(request, timeout=timeout_s, metadata=self._metadata())
        except grpc.RpcError as error:
            code: Any = cast("Any", error).code()
            kind = (
                Unavailable
                if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
                else KeplerError
            )
            raise kind("The service gives no second opinion", cause=str(code.name)) from error
        records = list(csv.reader(io.StringIO(answer.scored.values.decode())))
        cells = records[0] if records else []
        columns = list(answer.opened.output_columns)
        if answer.scored.rows != 1 or len(cells) != len(columns):
            raise KeplerError("The service's answer does not fit the question")
        return answer.opened.model, dict(zip(columns, cells, strict=True))

    def close(self) -> None:
        self._channel.close()

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        if not self._token_file:
            return ()
        try:
            return (("authorization", f"Bearer {Path(self._token_file).read_text('utf-8').strip()}"),)
        except OSError as error:
            raise KeplerError("ask_token_file cannot be read", cause=error.strerror or "") from error


def _cell(value: object) -> object:
    return "" if value is None else int(value) if isinstance(value, bool) else value


def _pem(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes() if path else None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read", cause=error.strerror or str(error)) from error


def _bytes(request: Any) -> bytes:
    return request.SerializeToString()
