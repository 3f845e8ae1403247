"""How jobs are run and kept."""

from __future__ import annotations

from dataclasses import dataclass

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class JobSettings:
    """Bounds of the job runner.

    ``concurrency`` jobs run at once; ``max_active`` may wait and run, the next is refused. A job fails when
    the service did not survive ``max_attempts`` of its starts. Results (predictions, logs) are kept
    ``results_ttl_s`` and at most ``max_results_bytes`` in all; records ``records_ttl_s``. ``poll_s`` is how
    often DBOS looks into the queue, ``sweep_s`` how often the housekeeping runs.
    """

    concurrency: int = 2
    max_active: int = 1000
    max_attempts: int = 3
    results_ttl_s: float = DAY_S
    max_results_bytes: int = 20 * 1024**3
    records_ttl_s: float = 90 * DAY_S
    poll_s: float = 0.2  # 0.1 s cost an idle service 7 % of a core, 0.25 s 4 %
    sweep_s: float = 30.0
