from kepler.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetSpoolRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SpoolState(_message.Message):
    __slots__ = ("destination", "events", "bytes", "oldest_at", "dead_letters", "sent", "resent", "dropped", "failures", "problem")
    class FailuresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    OLDEST_AT_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    RESENT_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    destination: str
    events: int
    bytes: int
    oldest_at: float
    dead_letters: int
    sent: int
    resent: int
    dropped: int
    failures: _containers.ScalarMap[str, int]
    problem: str
    def __init__(self, destination: _Optional[str] = ..., events: _Optional[int] = ..., bytes: _Optional[int] = ..., oldest_at: _Optional[float] = ..., dead_letters: _Optional[int] = ..., sent: _Optional[int] = ..., resent: _Optional[int] = ..., dropped: _Optional[int] = ..., failures: _Optional[_Mapping[str, int]] = ..., problem: _Optional[str] = ...) -> None: ...

class GetSpoolResponse(_message.Message):
    __slots__ = ("states",)
    STATES_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedCompositeFieldContainer[SpoolState]
    def __init__(self, states: _Optional[_Iterable[_Union[SpoolState, _Mapping]]] = ...) -> None: ...

class FlushSpoolRequest(_message.Message):
    __slots__ = ("timeout_s",)
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    timeout_s: float
    def __init__(self, timeout_s: _Optional[float] = ...) -> None: ...

class FlushSpoolResponse(_message.Message):
    __slots__ = ("empty", "states")
    EMPTY_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    empty: bool
    states: _containers.RepeatedCompositeFieldContainer[SpoolState]
    def __init__(self, empty: bool = ..., states: _Optional[_Iterable[_Union[SpoolState, _Mapping]]] = ...) -> None: ...

class ListDeadLettersRequest(_message.Message):
    __slots__ = ("page_size", "after_id")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    AFTER_ID_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    after_id: int
    def __init__(self, page_size: _Optional[int] = ..., after_id: _Optional[int] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("id", "refused_at", "destination", "source", "code", "reason", "body")
    ID_FIELD_NUMBER: _ClassVar[int]
    REFUSED_AT_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    id: int
    refused_at: float
    destination: str
    source: str
    code: int
    reason: str
    body: str
    def __init__(self, id: _Optional[int] = ..., refused_at: _Optional[float] = ..., destination: _Optional[str] = ..., source: _Optional[str] = ..., code: _Optional[int] = ..., reason: _Optional[str] = ..., body: _Optional[str] = ...) -> None: ...

class ListDeadLettersResponse(_message.Message):
    __slots__ = ("dead_letters",)
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    dead_letters: _containers.RepeatedCompositeFieldContainer[DeadLetter]
    def __init__(self, dead_letters: _Optional[_Iterable[_Union[DeadLetter, _Mapping]]] = ...) -> None: ...

class DeadLetterChoice(_message.Message):
    __slots__ = ("ids", "all", "caller")
    IDS_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    all: bool
    caller: _common_pb2.Caller
    def __init__(self, ids: _Optional[_Iterable[int]] = ..., all: bool = ..., caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ...) -> None: ...

class DeadLetterCount(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...
