"""The queue: paid jobs, leased with fencing tokens.

`submit` charges and enqueues in one transaction; `claim`, `heartbeat`, `finish`, `fail`,
`hand_back`, `pause` are a worker's side; `cancel`, `get`, `list_of` are people's; `sweep` notices
silence. The rules are in the .sql files beside this one.
"""

from holdfast.kernel.queue.artifacts import Artifact, Part, artifact, artifacts
from holdfast.kernel.queue.ends import Ended, cancel, fail, finish, settle
from holdfast.kernel.queue.jobs import (
    Job,
    Kind,
    Step,
    Submitted,
    Watched,
    declare_kind,
    depth,
    get,
    get_many,
    list_of,
    reserve,
    retry,
    story,
    submit,
    watch,
)
from holdfast.kernel.queue.leases import (
    Beat,
    Lease,
    LowWater,
    claim,
    hand_back,
    heartbeat,
    pause,
)
from holdfast.kernel.queue.sweeper import Swept, sweep

__all__ = [
    "Artifact",
    "Beat",
    "Ended",
    "Job",
    "Kind",
    "Lease",
    "LowWater",
    "Part",
    "Step",
    "Submitted",
    "Swept",
    "Watched",
    "artifact",
    "artifacts",
    "cancel",
    "claim",
    "declare_kind",
    "depth",
    "fail",
    "finish",
    "get",
    "get_many",
    "hand_back",
    "heartbeat",
    "list_of",
    "pause",
    "reserve",
    "retry",
    "settle",
    "story",
    "submit",
    "sweep",
    "watch",
]
