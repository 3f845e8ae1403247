"""``kepler deploy`` and ``kepler deployments``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kepler.adapters.cli.connected import (
    Address,
    App,
    Home,
    Json,
    Params,
    Quiet,
    key_values,
    print_json,
    print_notices,
    print_table,
    session,
    when,
)
from kepler.core.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kepler.client.fleet_records import DeploymentPlan, DeploymentRecord, NamedText

app = typer.Typer(help="List deployments; status, logs, traffic, rollback and removal.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Id of the deployment.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")]


def deploy(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="app:NAME@7, NAME@prod; else the newest version.")
    ],
    target: Annotated[str, typer.Option(help="Where to: edge, or another of `kepler deployments targets`.")],
    to: Annotated[
        str, typer.Option(help="Chooses within the target: site=plant7 for devices, '*' for all.")
    ] = "",
    params: Params = None,
    deployment_id: Annotated[
        str, typer.Option("--id", help="Id of the deployment; the same one again begins nothing new.")
    ] = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end; fails as the deployment fails.")
    ] = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Bring a model version to where it serves, as a durable job.

    Options of the target are given as --set NAME=VALUE, such as --set stages=0.1,1 --set probation_s=600.
    """
    options = key_values(params)
    with session(address, home, app) as connected:
        if dry_run:
            plan = connected.plan(model, target=target, to=to, options=options)
            if as_json:
                print_json(plan)
            else:
                _show_plan(plan, quiet)
            return
        found = connected.deploy(model, target=target, to=to, options=options, deployment_id=deployment_id)
        if wait:
            from kepler.sdk_deploy import wait_for_deployment
            from kepler.sdk_progress import shown

            with shown(False if quiet else None) as bar:
                for job in connected.client.watch_job(found.id):
                    bar.job(job)
            found = wait_for_deployment(connected.client, found.id)
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{found.model} to {found.target} {found.to}: {found.state}, deployment {found.id}")


def _show_plan(plan: DeploymentPlan, quiet: bool) -> None:
    print_notices(plan.notices, quiet)
    typer.echo(f"{plan.model} to {plan.target} would:")
    print_table(("step", "what it does"), [(step.name, step.text) for step in plan.steps])
    typer.echo("")
    print_table(("where", "change"), [(change.name, change.text) for change in plan.changes])
    monthly = f" ({plan.cost_per_month:.2f} {plan.currency} a month)" if plan.cost_per_month else ""
    typer.echo(f"\nCost: {plan.cost}{monthly}")


def show_deployment(found: DeploymentRecord, as_json: bool) -> None:
    """A deployment with its places."""
    if as_json:
        print_json(found)
        return
    rows = [
        ("deployment", found.id),
        ("state", found.state),
        ("reason", found.reason),
        ("model", found.model),
        ("target", f"{found.target} {found.to}".strip()),
        ("owner", found.owner),
        ("created", when(found.created_at)),
        ("url", found.url),
        ("progress", f"{found.job.progress:.0%} {found.job.phase}" if found.job else ""),
        ("figures", " ".join(f"{name}={value:g}" for name, value in found.figures.items())),
    ]
    print_table(("field", "value"), [row for row in rows if row[1]])
    if found.places:
        typer.echo("")
        print_table(
            ("place", "state", "updated", "detail"),
            [(item.name, item.state, when(item.updated_at), item.detail) for item in found.places],
        )


def show_changes(changes: Iterable[NamedText], as_json: bool, dry_run: bool) -> None:
    """What changed, or would."""
    listed = list(changes)
    if as_json:
        print_json(listed)
    elif listed:
        print_table(
            ("where", "would change" if dry_run else "change"), [(item.name, item.text) for item in listed]
        )
    else:
        typer.echo("Nothing to change.", err=True)


@app.command("targets")
def targets(as_json: Json = False, address: Address = "", home: Home = "", app: App = "search") -> None:
    """List what one can deploy to."""
    with session(address, home, app) as connected:
        found = connected.deployments.targets()
    if as_json:
        print_json(found)
    else:
        print_table(
            ("target", "what it is"), [(item.name, item.description.partition("\n")[0]) for item in found]
        )


@app.command("list")
def list_(
    target: Annotated[str, typer.Option(help="Only those of one target.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Deployments to show, newest first.")] = 20,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """List deployments, newest first."""
    with session(address, home, app) as connected:
        found = connected.deployments.list(target, limit=limit)
    if as_json:
        print_json(found)
    elif found:
        rows = [
            (item.id, item.state, item.model, item.target, item.to, when(item.created_at)) for item in found
        ]
        print_table(("deployment", "state", "model", "target", "to", "created"), rows)
    else:
        typer.echo("No deployments.", err=True)


@app.command("status")
def status(
    deployment: Id, as_json: Json = False, address: Address = "", home: Home = "", app: App = "search"
) -> None:
    """Show one deployment and where it has come to."""
    with session(address, home, app) as connected:
        show_deployment(connected.deployments.get(deployment), as_json)


@app.command("logs")
def logs(
    deployment: Id,
    place: Annotated[str, typer.Option(help="Only of one place, such as a device.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Newest lines to show.")] = 100,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Show what happened, oldest first."""
    with session(address, home, app) as connected:
        found = connected.deployments.logs(deployment, place, limit=limit)
    if as_json:
        print_json(found)
    else:
        for line in found:
            typer.echo(f"{when(line.ts)}  {line.where}  {line.text}")


@app.command("traffic")
def traffic(
    deployment: Id,
    shares: Annotated[list[str], typer.Argument(metavar="VERSION=PERCENT...", help="7=90 8=10, 100 in all.")],
    dry_run: DryRun = False,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Split requests among versions, where the target can."""
    try:
        split = {int(name): float(value) for name, value in key_values(shares).items()}
    except ValueError as error:
        raise InvalidInput(f"{' '.join(shares)[:80]} are no shares", fix="Write 7=90 8=10.") from error
    with session(address, home, app) as connected:
        show_changes(connected.deployments.traffic(deployment, split, dry_run=dry_run), as_json, dry_run)


@app.command("rollback")
def rollback(
    deployment: Id,
    dry_run: DryRun = False,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Put back what served before."""
    with session(address, home, app) as connected:
        show_changes(connected.deployments.rollback(deployment, dry_run=dry_run), as_json, dry_run)


@app.command("delete")
def delete(
    deployment: Id,
    dry_run: DryRun = False,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Remove a deployment and what it made, as far as its target does."""
    with session(address, home, app) as connected:
        show_changes(connected.deployments.delete(deployment, dry_run=dry_run), as_json, dry_run)
