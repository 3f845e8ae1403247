"""Messages of the service as rows of a search."""

from __future__ import annotations

import time

from kepler_app.errors import SearchError, in_search_words
from kepler_app.lexer import Arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODEL_COLUMNS = [
    "model",
    "version",
    "aliases",
    "algorithm",
    "task",
    "target",
    "fields",
    "rows",
    "metrics",
    "params",
    "owner",
    "created",
    "format",
    "size_bytes",
    "job_id",
]
JOB_COLUMNS = [
    "job_id",
    "state",
    "progress",
    "phase",
    "subject",
    "model",
    "rows",
    "metrics",
    "owner",
    "created",
    "started",
    "finished",
    "attempt",
    "message",
    "sid",
]


def when(epoch: float) -> str:
    """A time as UTC, ISO 8601; empty for none."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch)) if epoch > 0 else ""


def figures(metrics: Any) -> str:
    """Metrics as ``name=value`` pairs.

    >>> figures([])
    ''
    """
    return " ".join(f"{metric.name}={metric.value:.6g}" for metric in metrics)


def model_row(version: Any) -> list[str]:
    """One version, in the order of `MODEL_COLUMNS`."""
    return [
        version.name,
        str(version.version),
        ",".join(sorted(version.aliases)),
        version.algorithm,
        version.task,
        version.target,
        ",".join(version.required_fields),
        str(version.rows),
        figures(version.metrics),
        " ".join(f"{name}={value}" for name, value in sorted(version.params.items())),
        version.owner,
        when(version.created_at),
        version.format,
        str(version.size_bytes),
        version.job_id,
    ]


def job_row(job: Any) -> list[str]:
    """One job, in the order of `JOB_COLUMNS`."""
    from kepler_app.jobs import state_name

    said = [job.error] if job.error else [notice.text for notice in job.notices]
    return [
        job.id,
        state_name(job),
        f"{job.progress:.2f}",
        job.phase,
        job.subject,
        job.model,
        str(job.rows),
        figures(job.metrics),
        job.owner,
        when(job.created_at),
        when(job.started_at),
        when(job.finished_at),
        str(job.attempt),
        in_search_words(" ".join(said)),
        job.sid,
    ]


def one_word(arguments: Arguments, option: str, command: str, what: str) -> str:
    """The single word of ``arguments``, or the option that stands for it."""
    given = arguments.take(option)
    words = [word.text for word in arguments.words]
    if len(words) + bool(given) != 1:
        found = "is missing" if not words and not given else "is named more than once"
        raise SearchError(f"The {what} {found}. Write {command} <{what}>.")
    return given or words[0]
