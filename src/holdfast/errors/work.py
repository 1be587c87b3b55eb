"""Refusals of the five businesses: money, jobs, orders, projects, courses."""

from __future__ import annotations

from holdfast.errors.tree import Refusal


class WrongStatus(Refusal):
    """The row's status has no edge for this verb; facts: `action`, `status`."""

    code = "wrong_status"


class InsufficientTokens(Refusal):
    """The wallet has less than the price; facts: `needed`, `available`, in whole tokens."""

    code, status = "insufficient_tokens", 402


class BalanceBelowFloor(Refusal):
    """An adjustment would take the balance below its floor; facts: `balance`, `floor`."""

    code = "balance_below_floor"


class HoldFinished(Refusal):
    """The hold was captured, released or has expired; facts: `status`."""

    code = "hold_finished"


class CaptureExceedsHold(Refusal):
    """More was to be captured than was held; facts: `held`, `asked`."""

    code = "capture_exceeds_hold"


class UsageRequired(Refusal):
    """A job priced by use was to be completed without saying what it used."""

    code = "usage_required"


class RefundExceedsCharge(Refusal):
    """More was to be refunded than was charged; facts: `charged`, `refunded`, `asked`."""

    code = "refund_exceeds_charge"


class LeaseLost(Refusal):
    """Another holder has it, or nobody: nothing was written. Raised as KH004 by `finish_within`.

    For workers and people alike; facts may name `since` and `holder`.
    """

    code, sqlstate = "lease_lost", "KH004"


class JobFinished(Refusal):
    """A completed or failed job cannot be cancelled; facts: `status`."""

    code = "job_finished"


class JobNotFailed(Refusal):
    """Only a failed or cancelled job can be retried; facts: `status`."""

    code = "job_not_failed"


class JobKindUnknown(Refusal):
    """No such kind of job is registered; facts: `kind`."""

    code, status = "job_kind_unknown", 422


class OrderNotFound(Refusal):
    """No such order, or not yours."""

    code, status = "order_not_found", 404


class OrderAlreadyAssigned(Refusal):
    """Another operator holds it; facts for those who may see: `holder {id, name}`, `since`."""

    code = "order_already_assigned"


class OrderNotPending(Refusal):
    """The order is COMPLETED or CANCELLED; facts: `status`."""

    code = "order_not_pending"


class OrderNotProcessing(Refusal):
    """Nobody works on the order, so it cannot be completed or released; facts: `status`."""

    code = "order_not_processing"


class DeskNotFound(Refusal):
    """No such desk; facts: `desk`."""

    code, status = "desk_not_found", 404


class OperatorNotFound(Refusal):
    """The named person does not work on this desk."""

    code, status = "operator_not_found", 422


class WipLimitReached(Refusal):
    """The operator holds as many orders of this desk as he may; facts: `limit`."""

    code = "wip_limit_reached"


class StepLocked(Refusal):
    """Earlier steps are unfinished; facts: `missing`, a list."""

    code = "step_locked"


class StepFinished(Refusal):
    """The step is completed or skipped; facts: `status`."""

    code = "step_finished"


class ScriptMissing(Refusal):
    """Stage 3 has no final script that a voice could read."""

    code = "script_missing"


class EffectNotDead(Refusal):
    """Only a dead letter is redriven or skipped; facts: `status`."""

    code = "effect_not_dead"
