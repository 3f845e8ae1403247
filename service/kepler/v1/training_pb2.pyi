from kepler.v1 import common_pb2 as _common_pb2
from kepler.v1 import prediction_pb2 as _prediction_pb2
from kepler.v1 import jobs_pb2 as _jobs_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TrainOpen(_message.Message):
    __slots__ = ("caller", "algorithm", "target", "features", "by", "into", "params", "options", "columns", "request_id")
    class ParamsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CALLER_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    INTO_FIELD_NUMBER: _ClassVar[int]
    AS_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    algorithm: str
    target: str
    features: _containers.RepeatedScalarFieldContainer[str]
    by: _containers.RepeatedScalarFieldContainer[str]
    into: str
    params: _containers.ScalarMap[str, str]
    options: TrainOptions
    columns: _containers.RepeatedScalarFieldContainer[str]
    request_id: str
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., algorithm: _Optional[str] = ..., target: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ..., by: _Optional[_Iterable[str]] = ..., into: _Optional[str] = ..., params: _Optional[_Mapping[str, str]] = ..., options: _Optional[_Union[TrainOptions, _Mapping]] = ..., columns: _Optional[_Iterable[str]] = ..., request_id: _Optional[str] = ..., **kwargs) -> None: ...

class TrainOptions(_message.Message):
    __slots__ = ("output", "nulls", "categoricals", "seed", "has_seed", "test_size", "kfold_cv", "partial_fit", "probabilities", "tags", "dry_run")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    NULLS_FIELD_NUMBER: _ClassVar[int]
    CATEGORICALS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    HAS_SEED_FIELD_NUMBER: _ClassVar[int]
    TEST_SIZE_FIELD_NUMBER: _ClassVar[int]
    KFOLD_CV_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIT_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    output: str
    nulls: str
    categoricals: str
    seed: int
    has_seed: bool
    test_size: float
    kfold_cv: int
    partial_fit: bool
    probabilities: bool
    tags: _containers.RepeatedScalarFieldContainer[str]
    dry_run: bool
    def __init__(self, output: _Optional[str] = ..., nulls: _Optional[str] = ..., categoricals: _Optional[str] = ..., seed: _Optional[int] = ..., has_seed: bool = ..., test_size: _Optional[float] = ..., kfold_cv: _Optional[int] = ..., partial_fit: bool = ..., probabilities: bool = ..., tags: _Optional[_Iterable[str]] = ..., dry_run: bool = ...) -> None: ...

class TrainRequest(_message.Message):
    __slots__ = ("open", "rows", "end")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    open: TrainOpen
    rows: bytes
    end: TrainEnd
    def __init__(self, open: _Optional[_Union[TrainOpen, _Mapping]] = ..., rows: _Optional[bytes] = ..., end: _Optional[_Union[TrainEnd, _Mapping]] = ...) -> None: ...

class TrainEnd(_message.Message):
    __slots__ = ("slices",)
    SLICES_FIELD_NUMBER: _ClassVar[int]
    slices: int
    def __init__(self, slices: _Optional[int] = ...) -> None: ...

class TrainAccepted(_message.Message):
    __slots__ = ("algorithm", "model", "used_fields", "notices")
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    USED_FIELDS_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    algorithm: str
    model: str
    used_fields: _containers.RepeatedScalarFieldContainer[str]
    notices: _containers.RepeatedCompositeFieldContainer[_common_pb2.Notice]
    def __init__(self, algorithm: _Optional[str] = ..., model: _Optional[str] = ..., used_fields: _Optional[_Iterable[str]] = ..., notices: _Optional[_Iterable[_Union[_common_pb2.Notice, _Mapping]]] = ...) -> None: ...

class TrainQueued(_message.Message):
    __slots__ = ("job_id", "rows")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    rows: int
    def __init__(self, job_id: _Optional[str] = ..., rows: _Optional[int] = ...) -> None: ...

class TrainResponse(_message.Message):
    __slots__ = ("accepted", "queued")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    accepted: TrainAccepted
    queued: TrainQueued
    def __init__(self, accepted: _Optional[_Union[TrainAccepted, _Mapping]] = ..., queued: _Optional[_Union[TrainQueued, _Mapping]] = ...) -> None: ...

class ListAlgorithmsRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class AlgorithmParam(_message.Message):
    __slots__ = ("name", "type", "default_value", "low", "high", "choices", "description")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    default_value: str
    low: str
    high: str
    choices: _containers.RepeatedScalarFieldContainer[str]
    description: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., default_value: _Optional[str] = ..., low: _Optional[str] = ..., high: _Optional[str] = ..., choices: _Optional[_Iterable[str]] = ..., description: _Optional[str] = ...) -> None: ...

class Algorithm(_message.Message):
    __slots__ = ("name", "aliases", "tasks", "description", "params", "extra", "available")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    aliases: _containers.RepeatedScalarFieldContainer[str]
    tasks: _containers.RepeatedScalarFieldContainer[str]
    description: str
    params: _containers.RepeatedCompositeFieldContainer[AlgorithmParam]
    extra: str
    available: bool
    def __init__(self, name: _Optional[str] = ..., aliases: _Optional[_Iterable[str]] = ..., tasks: _Optional[_Iterable[str]] = ..., description: _Optional[str] = ..., params: _Optional[_Iterable[_Union[AlgorithmParam, _Mapping]]] = ..., extra: _Optional[str] = ..., available: bool = ...) -> None: ...

class ListAlgorithmsResponse(_message.Message):
    __slots__ = ("algorithms",)
    ALGORITHMS_FIELD_NUMBER: _ClassVar[int]
    algorithms: _containers.RepeatedCompositeFieldContainer[Algorithm]
    def __init__(self, algorithms: _Optional[_Iterable[_Union[Algorithm, _Mapping]]] = ...) -> None: ...
