from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_INVALID: _ClassVar[DType]
    DTYPE_UINT8: _ClassVar[DType]
    DTYPE_INT32: _ClassVar[DType]
    DTYPE_INT64: _ClassVar[DType]
    DTYPE_FLOAT32: _ClassVar[DType]

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_INVALID: _ClassVar[Kind]
    KIND_BOX: _ClassVar[Kind]
    KIND_DISCRETE: _ClassVar[Kind]
    KIND_BINARY: _ClassVar[Kind]

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_INVALID: _ClassVar[Role]
    ROLE_VALUE: _ClassVar[Role]
    ROLE_ACTION_MASK: _ClassVar[Role]
DTYPE_INVALID: DType
DTYPE_UINT8: DType
DTYPE_INT32: DType
DTYPE_INT64: DType
DTYPE_FLOAT32: DType
KIND_INVALID: Kind
KIND_BOX: Kind
KIND_DISCRETE: Kind
KIND_BINARY: Kind
ROLE_INVALID: Role
ROLE_VALUE: Role
ROLE_ACTION_MASK: Role

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("protocol", "specs", "run_name", "server_version")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SPECS_FIELD_NUMBER: _ClassVar[int]
    RUN_NAME_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    protocol: ProtocolVersion
    specs: _containers.RepeatedCompositeFieldContainer[EnvironmentSpec]
    run_name: str
    server_version: str
    def __init__(self, protocol: _Optional[_Union[ProtocolVersion, _Mapping]] = ..., specs: _Optional[_Iterable[_Union[EnvironmentSpec, _Mapping]]] = ..., run_name: _Optional[str] = ..., server_version: _Optional[str] = ...) -> None: ...

class ProtocolVersion(_message.Message):
    __slots__ = ("major", "minor")
    MAJOR_FIELD_NUMBER: _ClassVar[int]
    MINOR_FIELD_NUMBER: _ClassVar[int]
    major: int
    minor: int
    def __init__(self, major: _Optional[int] = ..., minor: _Optional[int] = ...) -> None: ...

class ArraySpec(_message.Message):
    __slots__ = ("name", "dtype", "shape", "low", "high", "role", "kind", "source_dtype", "median")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SOURCE_DTYPE_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    low: _containers.RepeatedScalarFieldContainer[float]
    high: _containers.RepeatedScalarFieldContainer[float]
    role: Role
    kind: Kind
    source_dtype: str
    median: float
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., low: _Optional[_Iterable[float]] = ..., high: _Optional[_Iterable[float]] = ..., role: _Optional[_Union[Role, str]] = ..., kind: _Optional[_Union[Kind, str]] = ..., source_dtype: _Optional[str] = ..., median: _Optional[float] = ...) -> None: ...

class EnvironmentSpec(_message.Message):
    __slots__ = ("environment", "preset", "observations", "actions", "frames_per_step")
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_PER_STEP_FIELD_NUMBER: _ClassVar[int]
    environment: str
    preset: str
    observations: _containers.RepeatedCompositeFieldContainer[ArraySpec]
    actions: _containers.RepeatedCompositeFieldContainer[ArraySpec]
    frames_per_step: int
    def __init__(self, environment: _Optional[str] = ..., preset: _Optional[str] = ..., observations: _Optional[_Iterable[_Union[ArraySpec, _Mapping]]] = ..., actions: _Optional[_Iterable[_Union[ArraySpec, _Mapping]]] = ..., frames_per_step: _Optional[int] = ...) -> None: ...

class Environment(_message.Message):
    __slots__ = ("task", "index")
    TASK_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    task: str
    index: int
    def __init__(self, task: _Optional[str] = ..., index: _Optional[int] = ...) -> None: ...

class ClientMessage(_message.Message):
    __slots__ = ("steps", "hello", "goodbye")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    steps: Steps
    hello: Hello
    goodbye: Goodbye
    def __init__(self, steps: _Optional[_Union[Steps, _Mapping]] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ...) -> None: ...

class ServerMessage(_message.Message):
    __slots__ = ("actions", "welcome", "drain")
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    actions: Actions
    welcome: Welcome
    drain: Drain
    def __init__(self, actions: _Optional[_Union[Actions, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "client_id", "run_id", "group", "environments", "spec", "assign_indices")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENTS_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    ASSIGN_INDICES_FIELD_NUMBER: _ClassVar[int]
    protocol: ProtocolVersion
    client_id: str
    run_id: int
    group: int
    environments: _containers.RepeatedCompositeFieldContainer[Environment]
    spec: EnvironmentSpec
    assign_indices: bool
    def __init__(self, protocol: _Optional[_Union[ProtocolVersion, _Mapping]] = ..., client_id: _Optional[str] = ..., run_id: _Optional[int] = ..., group: _Optional[int] = ..., environments: _Optional[_Iterable[_Union[Environment, _Mapping]]] = ..., spec: _Optional[_Union[EnvironmentSpec, _Mapping]] = ..., assign_indices: _Optional[bool] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "resumed", "last_seq", "grace_s", "run_name", "server_version", "environment_indices", "tasks")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    RUN_NAME_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_INDICES_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    protocol: ProtocolVersion
    resumed: bool
    last_seq: int
    grace_s: float
    run_name: str
    server_version: str
    environment_indices: _containers.RepeatedScalarFieldContainer[int]
    tasks: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, protocol: _Optional[_Union[ProtocolVersion, _Mapping]] = ..., resumed: _Optional[bool] = ..., last_seq: _Optional[int] = ..., grace_s: _Optional[float] = ..., run_name: _Optional[str] = ..., server_version: _Optional[str] = ..., environment_indices: _Optional[_Iterable[int]] = ..., tasks: _Optional[_Iterable[int]] = ...) -> None: ...

class Steps(_message.Message):
    __slots__ = ("seq", "step_type", "reward", "discount", "observations", "episode_ends")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    STEP_TYPE_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    DISCOUNT_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    EPISODE_ENDS_FIELD_NUMBER: _ClassVar[int]
    seq: int
    step_type: bytes
    reward: bytes
    discount: bytes
    observations: _containers.RepeatedScalarFieldContainer[bytes]
    episode_ends: _containers.RepeatedCompositeFieldContainer[EpisodeEnd]
    def __init__(self, seq: _Optional[int] = ..., step_type: _Optional[bytes] = ..., reward: _Optional[bytes] = ..., discount: _Optional[bytes] = ..., observations: _Optional[_Iterable[bytes]] = ..., episode_ends: _Optional[_Iterable[_Union[EpisodeEnd, _Mapping]]] = ...) -> None: ...

class EpisodeEnd(_message.Message):
    __slots__ = ("row", "episode_return", "steps", "frames", "info")
    class InfoEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ROW_FIELD_NUMBER: _ClassVar[int]
    EPISODE_RETURN_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    row: int
    episode_return: float
    steps: int
    frames: int
    info: _containers.ScalarMap[str, float]
    def __init__(self, row: _Optional[int] = ..., episode_return: _Optional[float] = ..., steps: _Optional[int] = ..., frames: _Optional[int] = ..., info: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Actions(_message.Message):
    __slots__ = ("seq", "actions", "policy_version")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    seq: int
    actions: _containers.RepeatedScalarFieldContainer[bytes]
    policy_version: int
    def __init__(self, seq: _Optional[int] = ..., actions: _Optional[_Iterable[bytes]] = ..., policy_version: _Optional[int] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("reason", "retry_after_ms")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_INVALID: _ClassVar[Drain.Reason]
        REASON_FINISHED: _ClassVar[Drain.Reason]
        REASON_RESTARTING: _ClassVar[Drain.Reason]
    REASON_INVALID: Drain.Reason
    REASON_FINISHED: Drain.Reason
    REASON_RESTARTING: Drain.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    reason: Drain.Reason
    retry_after_ms: int
    def __init__(self, reason: _Optional[_Union[Drain.Reason, str]] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ("clients",)
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    clients: bool
    def __init__(self, clients: _Optional[bool] = ...) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("protocol", "run_name", "server_version", "phase", "uptime_s", "counters", "gauges", "stages", "batch_sizes", "refusals", "processes", "clients")
    class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PHASE_STARTING: _ClassVar[StatusResponse.Phase]
        PHASE_SERVING: _ClassVar[StatusResponse.Phase]
        PHASE_DRAINING: _ClassVar[StatusResponse.Phase]
        PHASE_FAILED: _ClassVar[StatusResponse.Phase]
    PHASE_STARTING: StatusResponse.Phase
    PHASE_SERVING: StatusResponse.Phase
    PHASE_DRAINING: StatusResponse.Phase
    PHASE_FAILED: StatusResponse.Phase
    class CountersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class GaugesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class StagesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Histogram
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Histogram, _Mapping]] = ...) -> None: ...
    class RefusalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    RUN_NAME_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    GAUGES_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZES_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    protocol: ProtocolVersion
    run_name: str
    server_version: str
    phase: StatusResponse.Phase
    uptime_s: float
    counters: _containers.ScalarMap[str, float]
    gauges: _containers.ScalarMap[str, float]
    stages: _containers.MessageMap[str, Histogram]
    batch_sizes: Histogram
    refusals: _containers.ScalarMap[str, int]
    processes: _containers.RepeatedCompositeFieldContainer[Process]
    clients: _containers.RepeatedCompositeFieldContainer[ClientStatus]
    def __init__(self, protocol: _Optional[_Union[ProtocolVersion, _Mapping]] = ..., run_name: _Optional[str] = ..., server_version: _Optional[str] = ..., phase: _Optional[_Union[StatusResponse.Phase, str]] = ..., uptime_s: _Optional[float] = ..., counters: _Optional[_Mapping[str, float]] = ..., gauges: _Optional[_Mapping[str, float]] = ..., stages: _Optional[_Mapping[str, Histogram]] = ..., batch_sizes: _Optional[_Union[Histogram, _Mapping]] = ..., refusals: _Optional[_Mapping[str, int]] = ..., processes: _Optional[_Iterable[_Union[Process, _Mapping]]] = ..., clients: _Optional[_Iterable[_Union[ClientStatus, _Mapping]]] = ...) -> None: ...

class ClientStatus(_message.Message):
    __slots__ = ("client_id", "host", "environments", "state", "since_s", "steps_per_s", "think_ms", "reconnects", "last_seen_s")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENTS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SINCE_S_FIELD_NUMBER: _ClassVar[int]
    STEPS_PER_S_FIELD_NUMBER: _ClassVar[int]
    THINK_MS_FIELD_NUMBER: _ClassVar[int]
    RECONNECTS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_S_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    host: str
    environments: int
    state: str
    since_s: float
    steps_per_s: float
    think_ms: float
    reconnects: int
    last_seen_s: float
    def __init__(self, client_id: _Optional[str] = ..., host: _Optional[str] = ..., environments: _Optional[int] = ..., state: _Optional[str] = ..., since_s: _Optional[float] = ..., steps_per_s: _Optional[float] = ..., think_ms: _Optional[float] = ..., reconnects: _Optional[int] = ..., last_seen_s: _Optional[float] = ...) -> None: ...

class Histogram(_message.Message):
    __slots__ = ("sum", "buckets")
    SUM_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    sum: float
    buckets: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, sum: _Optional[float] = ..., buckets: _Optional[_Iterable[int]] = ...) -> None: ...

class Process(_message.Message):
    __slots__ = ("name", "pid", "cpu_s", "rss_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    CPU_S_FIELD_NUMBER: _ClassVar[int]
    RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    pid: int
    cpu_s: float
    rss_bytes: int
    def __init__(self, name: _Optional[str] = ..., pid: _Optional[int] = ..., cpu_s: _Optional[float] = ..., rss_bytes: _Optional[int] = ...) -> None: ...
