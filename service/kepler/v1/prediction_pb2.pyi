from kepler.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PredictOptions(_message.Message):
    __slots__ = ("probabilities", "on_missing", "overrides")
    class OverridesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    AS_FIELD_NUMBER: _ClassVar[int]
    ON_MISSING_FIELD_NUMBER: _ClassVar[int]
    OVERRIDES_FIELD_NUMBER: _ClassVar[int]
    probabilities: bool
    on_missing: str
    overrides: _containers.ScalarMap[str, str]
    def __init__(self, probabilities: bool = ..., on_missing: _Optional[str] = ..., overrides: _Optional[_Mapping[str, str]] = ..., **kwargs) -> None: ...

class PredictOpen(_message.Message):
    __slots__ = ("caller", "model", "columns", "options", "signature")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    model: str
    columns: _containers.RepeatedScalarFieldContainer[str]
    options: PredictOptions
    signature: str
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., model: _Optional[str] = ..., columns: _Optional[_Iterable[str]] = ..., options: _Optional[_Union[PredictOptions, _Mapping]] = ..., signature: _Optional[str] = ...) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("open", "rows")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    open: PredictOpen
    rows: bytes
    def __init__(self, open: _Optional[_Union[PredictOpen, _Mapping]] = ..., rows: _Optional[bytes] = ...) -> None: ...

class PredictOpened(_message.Message):
    __slots__ = ("model", "signature", "required_fields", "output_columns", "signature_changed", "notices")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELDS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_CHANGED_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    model: str
    signature: str
    required_fields: _containers.RepeatedScalarFieldContainer[str]
    output_columns: _containers.RepeatedScalarFieldContainer[str]
    signature_changed: bool
    notices: _containers.RepeatedCompositeFieldContainer[_common_pb2.Notice]
    def __init__(self, model: _Optional[str] = ..., signature: _Optional[str] = ..., required_fields: _Optional[_Iterable[str]] = ..., output_columns: _Optional[_Iterable[str]] = ..., signature_changed: bool = ..., notices: _Optional[_Iterable[_Union[_common_pb2.Notice, _Mapping]]] = ...) -> None: ...

class Scored(_message.Message):
    __slots__ = ("rows", "values", "one_line_per_row", "notices")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    ONE_LINE_PER_ROW_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    rows: int
    values: bytes
    one_line_per_row: bool
    notices: _containers.RepeatedCompositeFieldContainer[_common_pb2.Notice]
    def __init__(self, rows: _Optional[int] = ..., values: _Optional[bytes] = ..., one_line_per_row: bool = ..., notices: _Optional[_Iterable[_Union[_common_pb2.Notice, _Mapping]]] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("opened", "scored")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    SCORED_FIELD_NUMBER: _ClassVar[int]
    opened: PredictOpened
    scored: Scored
    def __init__(self, opened: _Optional[_Union[PredictOpened, _Mapping]] = ..., scored: _Optional[_Union[Scored, _Mapping]] = ...) -> None: ...

class PredictRowsRequest(_message.Message):
    __slots__ = ("caller", "model", "columns", "rows", "options")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    model: str
    columns: _containers.RepeatedScalarFieldContainer[str]
    rows: bytes
    options: PredictOptions
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., model: _Optional[str] = ..., columns: _Optional[_Iterable[str]] = ..., rows: _Optional[bytes] = ..., options: _Optional[_Union[PredictOptions, _Mapping]] = ...) -> None: ...

class PredictRowsResponse(_message.Message):
    __slots__ = ("opened", "scored")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    SCORED_FIELD_NUMBER: _ClassVar[int]
    opened: PredictOpened
    scored: Scored
    def __init__(self, opened: _Optional[_Union[PredictOpened, _Mapping]] = ..., scored: _Optional[_Union[Scored, _Mapping]] = ...) -> None: ...

class ScoreOpen(_message.Message):
    __slots__ = ("caller", "columns", "methods", "actual", "predicted", "by", "params")
    class ParamsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CALLER_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    ACTUAL_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    columns: _containers.RepeatedScalarFieldContainer[str]
    methods: _containers.RepeatedScalarFieldContainer[str]
    actual: _containers.RepeatedScalarFieldContainer[str]
    predicted: _containers.RepeatedScalarFieldContainer[str]
    by: _containers.RepeatedScalarFieldContainer[str]
    params: _containers.ScalarMap[str, str]
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., columns: _Optional[_Iterable[str]] = ..., methods: _Optional[_Iterable[str]] = ..., actual: _Optional[_Iterable[str]] = ..., predicted: _Optional[_Iterable[str]] = ..., by: _Optional[_Iterable[str]] = ..., params: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("open", "rows")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    open: ScoreOpen
    rows: bytes
    def __init__(self, open: _Optional[_Union[ScoreOpen, _Mapping]] = ..., rows: _Optional[bytes] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("table", "notices")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    table: _common_pb2.Table
    notices: _containers.RepeatedCompositeFieldContainer[_common_pb2.Notice]
    def __init__(self, table: _Optional[_Union[_common_pb2.Table, _Mapping]] = ..., notices: _Optional[_Iterable[_Union[_common_pb2.Notice, _Mapping]]] = ...) -> None: ...
