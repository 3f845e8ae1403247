"""What Splunk is told of jobs."""

from __future__ import annotations

from kepler.core.jobs import JobRecord
from kepler.ports.hec import EventKind, HecEvent


def job_event(record: JobRecord) -> HecEvent:
    """The end of a job, as an event ``kepler:job``; the same id however often the end is told."""
    failure = record.failure
    return HecEvent(
        EventKind.JOB,
        {
            "job_id": record.id,
            "job_kind": record.kind,
            "state": record.state.value,
            "owner": record.owner,
            "subject": record.subject,
            "model": record.model,
            "rows": record.rows,
            "created_at": record.created_at,
            "started_at": record.started_at,
            "duration_s": round(max(0.0, record.finished_at - record.started_at), 3)
            if record.started_at
            else 0.0,
            "metrics": {
                name: value for name, value in record.metrics if value == value and abs(value) != float("inf")
            },
            "error": failure.code if failure else "",
            "message": failure.to_error().sentence if failure else "",
        },
        record.finished_at,
        f"job:{record.id}:{record.state.value}",
        source="jobs",
    )
