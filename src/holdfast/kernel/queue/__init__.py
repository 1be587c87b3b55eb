"""The queue: paid jobs, leased with fencing tokens.

`submit` charges and enqueues in one transaction; `claim`, `heartbeat`, `finish`, `fail`,
`hand_back`, `pause` are a worker's side; `cancel`, `get`, `list_of` are people's; `sweep` notices
silence. The rules are in the .sql files beside this one.
"""

from holdfast.kernel.queue.artifacts import Artifact, Part, artifact, artifacts
from holdfast.kernel.queue.attempts import Attempt, AttemptFailed, Handler, OutOfService
from holdfast.kernel.queue.ends import Ended, cancel, fail, finish, finish_within, settle
from holdfast.kernel.queue.files import keep_file
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
    list_all,
    list_of,
    reserve,
    retry,
    story,
    submit,
    watch,
)
from holdfast.kernel.queue.kinds import Declared, declared, enqueue, job
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
    "Attempt",
    "AttemptFailed",
    "Beat",
    "Declared",
    "Ended",
    "Handler",
    "Job",
    "Kind",
    "Lease",
    "LowWater",
    "OutOfService",
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
    "declared",
    "depth",
    "enqueue",
    "fail",
    "finish",
    "finish_within",
    "get",
    "get_many",
    "hand_back",
    "heartbeat",
    "job",
    "keep_file",
    "list_all",
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
