"""A request and a response of the REST API, and splunkd's ways to say no."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape, quoteattr


@dataclass
class Request:
    method: str
    path: str
    """Below /services or /servicesNS/owner/app, without slashes at its ends."""
    owner: str | None
    app: str | None
    query: list[tuple[str, str]]
    form: list[tuple[str, str]]
    body: bytes
    headers: dict[str, str]
    client: str = "127.0.0.1"
    user: str | None = None
    session_key: str = ""
    full_path: str = ""

    @property
    def arguments(self) -> dict[str, str]:
        """Query and form together; the last of a repeated name wins."""
        return dict([*self.query, *self.form])

    def all(self, name: str) -> list[str]:
        return [v for k, v in [*self.query, *self.form] if k == name]

    def get(self, name: str, default: str = "") -> str:
        return self.arguments.get(name, default)

    def number(self, name: str, default: int) -> int:
        given = self.get(name)
        if not given:
            return default
        try:
            return int(given)
        except ValueError as error:
            raise Refused(400, f"Invalid value ({given}) for {name}") from error

    @property
    def wants_json(self) -> bool:
        return self.get("output_mode") in ("json", "json_rows", "json_cols")

    def true(self, name: str, default: bool = False) -> bool:
        return self.get(name, "1" if default else "0").lower() in {"1", "true", "t"}


@dataclass
class Response:
    status: int = 200
    body: bytes = b""
    content_type: str = "text/xml; charset=UTF-8"
    headers: list[tuple[str, str]] = field(default_factory=list)
    stream: Iterator[bytes] | None = None


class HangUp(Exception):
    """The connection ends here, without an answer."""


class Refused(Exception):
    """An answer other than 2xx: status and messages as splunkd words them."""

    def __init__(self, status: int, text: str, level: str = "ERROR", code: str | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.level, self.code = status, text, level, code

    def response(self, request: Request | None) -> Response:
        if request is not None and request.wants_json:
            message = {"type": self.level, "text": self.text, **({"code": self.code} if self.code else {})}
            return json_response({"messages": [message]}, self.status)
        code = f" code={quoteattr(self.code)}" if self.code else ""
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<response>\n  <messages>\n    <msg type="{self.level}"{code}>'
            f"{escape(self.text)}</msg>\n  </messages>\n</response>\n"
        )
        return Response(self.status, body.encode())


def not_authenticated() -> Refused:
    return Refused(401, "call not properly authenticated", "WARN")


def not_permitted() -> Refused:
    return Refused(403, "insufficient permission to access this resource", "WARN")


def missing_capability(capability: str) -> Refused:
    return Refused(
        403,
        f"You (user) do not have permission to perform this operation (requires capability: {capability}).",
        "WARN",
    )


def not_found(kind: str, name: str) -> Refused:
    return Refused(404, f"\n In handler '{kind}': Could not find object id={name}")


def json_response(value: Any, status: int = 200) -> Response:
    return Response(status, json.dumps(value, ensure_ascii=False).encode(), "application/json; charset=UTF-8")
