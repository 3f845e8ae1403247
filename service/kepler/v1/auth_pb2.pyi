from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class IssueTokenRequest(_message.Message):
    __slots__ = ("user", "capabilities", "ttl_s")
    USER_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    user: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    ttl_s: int
    def __init__(self, user: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ..., ttl_s: _Optional[int] = ...) -> None: ...

class IssueTokenResponse(_message.Message):
    __slots__ = ("token", "expires_at", "capabilities")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    token: str
    expires_at: float
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, token: _Optional[str] = ..., expires_at: _Optional[float] = ..., capabilities: _Optional[_Iterable[str]] = ...) -> None: ...

class WhoAmIRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WhoAmIResponse(_message.Message):
    __slots__ = ("user", "capabilities", "service_version", "api_version", "tls", "token_expires_at", "server_time")
    USER_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    SERVICE_VERSION_FIELD_NUMBER: _ClassVar[int]
    API_VERSION_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_FIELD_NUMBER: _ClassVar[int]
    user: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    service_version: str
    api_version: str
    tls: bool
    token_expires_at: float
    server_time: str
    def __init__(self, user: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ..., service_version: _Optional[str] = ..., api_version: _Optional[str] = ..., tls: bool = ..., token_expires_at: _Optional[float] = ..., server_time: _Optional[str] = ...) -> None: ...
