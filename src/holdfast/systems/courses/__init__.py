"""Training courses: finishing a step moves the step, its day and its course, or nothing at all."""

from holdfast.systems.courses.content import (
    CourseSummary,
    Published,
    catalogue,
    publish,
    publish_samples,
)
from holdfast.systems.courses.document import parse, read
from holdfast.systems.courses.enrolments import (
    Enrolled,
    Enrolment,
    EnrolmentSummary,
    Explanation,
    Moved,
    enrol,
    enrolments,
    explain,
    get,
    move,
    restart,
    set_reminders,
)
from holdfast.systems.courses.steps import RollUp, complete_step, skip_step, start_step

__all__ = [
    "CourseSummary",
    "Enrolled",
    "Enrolment",
    "EnrolmentSummary",
    "Explanation",
    "Moved",
    "Published",
    "RollUp",
    "catalogue",
    "complete_step",
    "enrol",
    "enrolments",
    "explain",
    "get",
    "move",
    "parse",
    "publish",
    "publish_samples",
    "read",
    "restart",
    "set_reminders",
    "skip_step",
    "start_step",
]
