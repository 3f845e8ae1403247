from kepler.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelVersion(_message.Message):
    __slots__ = ("name", "version", "aliases", "algorithm", "task", "target", "required_fields", "output_columns", "signature", "owner", "created_at", "job_id", "run_id", "format", "size_bytes", "rows", "metrics", "search", "sid", "data_sha256", "params", "tags", "manifest_json")
    class ParamsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELDS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    SID_FIELD_NUMBER: _ClassVar[int]
    DATA_SHA256_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    aliases: _containers.RepeatedScalarFieldContainer[str]
    algorithm: str
    task: str
    target: str
    required_fields: _containers.RepeatedScalarFieldContainer[str]
    output_columns: _containers.RepeatedScalarFieldContainer[str]
    signature: str
    owner: str
    created_at: float
    job_id: str
    run_id: str
    format: str
    size_bytes: int
    rows: int
    metrics: _containers.RepeatedCompositeFieldContainer[_common_pb2.Metric]
    search: str
    sid: str
    data_sha256: str
    params: _containers.ScalarMap[str, str]
    tags: _containers.ScalarMap[str, str]
    manifest_json: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., aliases: _Optional[_Iterable[str]] = ..., algorithm: _Optional[str] = ..., task: _Optional[str] = ..., target: _Optional[str] = ..., required_fields: _Optional[_Iterable[str]] = ..., output_columns: _Optional[_Iterable[str]] = ..., signature: _Optional[str] = ..., owner: _Optional[str] = ..., created_at: _Optional[float] = ..., job_id: _Optional[str] = ..., run_id: _Optional[str] = ..., format: _Optional[str] = ..., size_bytes: _Optional[int] = ..., rows: _Optional[int] = ..., metrics: _Optional[_Iterable[_Union[_common_pb2.Metric, _Mapping]]] = ..., search: _Optional[str] = ..., sid: _Optional[str] = ..., data_sha256: _Optional[str] = ..., params: _Optional[_Mapping[str, str]] = ..., tags: _Optional[_Mapping[str, str]] = ..., manifest_json: _Optional[str] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("caller", "pattern", "page_size", "page_token")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    pattern: str
    page_size: int
    page_token: str
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., pattern: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelVersion]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[ModelVersion, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("caller", "model")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    model: str
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., model: _Optional[str] = ...) -> None: ...

class ListVersionsResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[ModelVersion]
    def __init__(self, versions: _Optional[_Iterable[_Union[ModelVersion, _Mapping]]] = ...) -> None: ...

class SummarizeRequest(_message.Message):
    __slots__ = ("caller", "model", "view", "limit")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    model: str
    view: str
    limit: int
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., model: _Optional[str] = ..., view: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class SummarizeResponse(_message.Message):
    __slots__ = ("version", "table")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    version: ModelVersion
    table: _common_pb2.Table
    def __init__(self, version: _Optional[_Union[ModelVersion, _Mapping]] = ..., table: _Optional[_Union[_common_pb2.Table, _Mapping]] = ...) -> None: ...

class DeleteModelResponse(_message.Message):
    __slots__ = ("name", "versions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    versions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., versions: _Optional[_Iterable[int]] = ...) -> None: ...

class SetAliasRequest(_message.Message):
    __slots__ = ("caller", "model", "alias")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    model: str
    alias: str
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., model: _Optional[str] = ..., alias: _Optional[str] = ...) -> None: ...

class ExportVersionRequest(_message.Message):
    __slots__ = ("caller", "model")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    model: str
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., model: _Optional[str] = ...) -> None: ...

class ExportVersionResponse(_message.Message):
    __slots__ = ("opened", "chunk")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    opened: ExportOpened
    chunk: bytes
    def __init__(self, opened: _Optional[_Union[ExportOpened, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class ExportOpened(_message.Message):
    __slots__ = ("version", "size_bytes", "sha256", "key_id")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    version: ModelVersion
    size_bytes: int
    sha256: str
    key_id: str
    def __init__(self, version: _Optional[_Union[ModelVersion, _Mapping]] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., key_id: _Optional[str] = ...) -> None: ...

class ImportVersionRequest(_message.Message):
    __slots__ = ("open", "chunk", "end")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    open: ImportOpen
    chunk: bytes
    end: ImportEnd
    def __init__(self, open: _Optional[_Union[ImportOpen, _Mapping]] = ..., chunk: _Optional[bytes] = ..., end: _Optional[_Union[ImportEnd, _Mapping]] = ...) -> None: ...

class ImportOpen(_message.Message):
    __slots__ = ("caller", "into")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    INTO_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    into: str
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., into: _Optional[str] = ...) -> None: ...

class ImportEnd(_message.Message):
    __slots__ = ("size_bytes", "sha256")
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    size_bytes: int
    sha256: str
    def __init__(self, size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...

class ImportVersionResponse(_message.Message):
    __slots__ = ("version", "origin", "key_id")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    version: ModelVersion
    origin: str
    key_id: str
    def __init__(self, version: _Optional[_Union[ModelVersion, _Mapping]] = ..., origin: _Optional[str] = ..., key_id: _Optional[str] = ...) -> None: ...

class OptimizeVersionRequest(_message.Message):
    __slots__ = ("open", "rows", "end")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    open: OptimizeOpen
    rows: bytes
    end: OptimizeEnd
    def __init__(self, open: _Optional[_Union[OptimizeOpen, _Mapping]] = ..., rows: _Optional[bytes] = ..., end: _Optional[_Union[OptimizeEnd, _Mapping]] = ...) -> None: ...

class OptimizeOpen(_message.Message):
    __slots__ = ("caller", "model", "target", "columns", "thresholds", "dry_run")
    class ThresholdsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    CALLER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    model: str
    target: str
    columns: _containers.RepeatedScalarFieldContainer[str]
    thresholds: _containers.ScalarMap[str, float]
    dry_run: bool
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., model: _Optional[str] = ..., target: _Optional[str] = ..., columns: _Optional[_Iterable[str]] = ..., thresholds: _Optional[_Mapping[str, float]] = ..., dry_run: bool = ...) -> None: ...

class OptimizeEnd(_message.Message):
    __slots__ = ("slices",)
    SLICES_FIELD_NUMBER: _ClassVar[int]
    slices: int
    def __init__(self, slices: _Optional[int] = ...) -> None: ...

class OptimizeVersionResponse(_message.Message):
    __slots__ = ("version", "method", "agreement", "report", "thresholds", "calibrated_on", "notices")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_ON_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    version: ModelVersion
    method: str
    agreement: float
    report: _common_pb2.Table
    thresholds: _containers.RepeatedCompositeFieldContainer[RefitThreshold]
    calibrated_on: str
    notices: _containers.RepeatedCompositeFieldContainer[_common_pb2.Notice]
    def __init__(self, version: _Optional[_Union[ModelVersion, _Mapping]] = ..., method: _Optional[str] = ..., agreement: _Optional[float] = ..., report: _Optional[_Union[_common_pb2.Table, _Mapping]] = ..., thresholds: _Optional[_Iterable[_Union[RefitThreshold, _Mapping]]] = ..., calibrated_on: _Optional[str] = ..., notices: _Optional[_Iterable[_Union[_common_pb2.Notice, _Mapping]]] = ...) -> None: ...

class RefitThreshold(_message.Message):
    __slots__ = ("output", "before", "after", "agreement")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    output: str
    before: float
    after: float
    agreement: float
    def __init__(self, output: _Optional[str] = ..., before: _Optional[float] = ..., after: _Optional[float] = ..., agreement: _Optional[float] = ...) -> None: ...
