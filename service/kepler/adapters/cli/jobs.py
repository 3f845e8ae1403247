"""``kepler jobs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kepler.adapters.cli.connected import (
    Address,
    App,
    Home,
    Json,
    Quiet,
    job_json,
    metrics_text,
    print_json,
    print_notices,
    print_table,
    session,
    when,
)

if TYPE_CHECKING:
    from kepler.core.jobs import JobRecord

app = typer.Typer(help="List, watch and cancel jobs.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]


def _show(job: JobRecord, as_json: bool) -> None:
    if as_json:
        print_json(job_json(job))
        return
    took = job.finished_at - job.started_at if job.finished_at and job.started_at else 0.0
    rows = [
        ("job", job.id),
        ("state", str(job.state)),
        ("progress", f"{job.progress:.0%} {job.phase}".rstrip()),
        ("subject", job.subject),
        ("owner", job.owner),
        ("model", job.model),
        ("rows", f"{job.rows:,}"),
        ("metrics", metrics_text(job.metrics)),
        ("created", when(job.created_at)),
        ("took", f"{took:.1f} s" if took else ""),
        ("attempt", str(job.attempt)),
        ("error", job.failure.to_error().sentence if job.failure else ""),
    ]
    print_table(("field", "value"), [row for row in rows if row[1]])
    print_notices(job.notices)


@app.command("list")
def list_(
    state: Annotated[
        str, typer.Option(help="Only queued, running, succeeded, failed or cancelled ones.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Jobs to show, newest first.")] = 20,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """List jobs, newest first."""
    with session(address, home, app) as connected:
        found = connected.jobs(state, limit=limit)
    if as_json:
        print_json([job_json(job) for job in found])
    elif found:
        rows = [
            (job.id, str(job.state), f"{job.progress:.0%}", job.subject, job.owner, when(job.created_at))
            for job in found
        ]
        print_table(("job", "state", "done", "subject", "owner", "created"), rows)
    else:
        typer.echo("No jobs.", err=True)


@app.command("status")
def status(
    job_id: Id, as_json: Json = False, address: Address = "", home: Home = "", app: App = "search"
) -> None:
    """Show one job."""
    with session(address, home, app) as connected:
        _show(connected.job(job_id), as_json)


@app.command("wait")
def wait(
    job_id: Id,
    quiet: Quiet = False,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Wait for the end of a job and show it; fails as the job failed."""
    from kepler.core.jobs import JobState
    from kepler.sdk_progress import shown
    from kepler.sdk_train import job_error

    with session(address, home, app) as connected:
        job = connected.job(job_id)
        if not job.state.final:
            with shown(False if quiet else None) as bar:
                for job in connected.client.watch_job(job_id):
                    bar.job(job)
        _show(job, as_json)
        if job.state is not JobState.SUCCEEDED:
            raise job_error(job)


@app.command("cancel")
def cancel(
    job_id: Id, as_json: Json = False, address: Address = "", home: Home = "", app: App = "search"
) -> None:
    """Cancel a job; one that has ended stays as it is."""
    with session(address, home, app) as connected:
        _show(connected.client.cancel_job(job_id), as_json)
