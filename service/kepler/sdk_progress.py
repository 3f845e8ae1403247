"""Progress of long work on stderr: rows sent, then the job's phases."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from kepler.core.jobs import JobRecord


class Progress(Protocol):
    """What long work tells while it goes on."""

    def sent(self, n_bytes: int, total: int) -> None:
        """``n_bytes`` more were sent; ``total`` is 0 when unknown."""
        ...

    def job(self, job: JobRecord) -> None: ...


class Silent:
    """Shows nothing."""

    def sent(self, n_bytes: int, total: int) -> None:
        return

    def job(self, job: JobRecord) -> None:
        return


class _Bar:
    def __init__(self, update: Callable[[str, float | None], None]) -> None:
        self._update, self._bytes = update, 0

    def sent(self, n_bytes: int, total: int) -> None:
        self._bytes += n_bytes
        # A gzip file is smaller than its rows: never beyond the end.
        share = min(self._bytes / total, 1.0) if total else None
        self._update(f"sending rows, {self._bytes / 1e6:,.1f} MB", share)

    def job(self, job: JobRecord) -> None:
        share = 1.0 if job.state.final else job.progress
        self._update(
            f"{job.state}: {job.phase}" if job.phase and not job.state.final else str(job.state), share
        )


@contextmanager
def shown(wanted: bool | None = None) -> Iterator[Progress]:
    """A bar on stderr; by default only when stderr is a terminal."""
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting", total=None)

        def update(text: str, share: float | None) -> None:
            bars.update(
                task, description=text, total=1.0 if share is not None else None, completed=share or 0.0
            )

        yield _Bar(update)


def counted(slices: Iterable[bytes], progress: Progress, total: int) -> Iterator[bytes]:
    """``slices``, telling ``progress`` of each."""
    for text in slices:
        yield text
        progress.sent(len(text), total)
