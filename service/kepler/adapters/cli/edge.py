"""``kepler edge``: the fleet of gateways."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kepler.adapters.cli import home_tools
from kepler.adapters.cli.connected import (
    Address,
    App,
    Home,
    Json,
    Params,
    key_values,
    print_json,
    print_table,
    session,
    when,
)
from kepler.adapters.cli.deploy import DryRun, show_changes
from kepler.core.errors import InvalidInput, NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kepler.client.fleet_records import EdgeAnswer, EdgeDevice, EdgeRollout

app = typer.Typer(help="Devices, enrolment, rollouts and commands of the fleet.", no_args_is_help=True)

Device = Annotated[str, typer.Argument(metavar="DEVICE", help="Name of the device.")]
RolloutId = Annotated[str, typer.Argument(metavar="ROLLOUT", help="Id of the rollout; the deployment's.")]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", "-l", metavar="K=V", help="A label such as site=plant7; may be repeated."),
]


@app.command("devices")
def devices(
    selector: Annotated[
        str, typer.Argument(metavar="[SELECTOR]", help="site=plant7,line!=3; all without, revoked ones too.")
    ] = "",
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """List devices with what they run."""
    with session(address, home, app) as connected:
        found = connected.edge.devices(selector)
    if as_json:
        print_json(found)
    elif found:
        columns = ("device", "state", "labels", "seen", "agent", "models", "desired", "error")
        print_table(columns, [_device_row(item) for item in found])
    else:
        typer.echo("No devices.", err=True)


@app.command("enrol")
def enrol(
    device: Annotated[
        str, typer.Argument(metavar="[DEVICE]", help="Whom the token lets in; any new name without.")
    ] = "",
    label: Labels = None,
    ttl: Annotated[str, typer.Option(help="How long the token holds: 30m, 12h, 7d.")] = "1d",
    certificate: Annotated[
        Path | None, typer.Option(help="Enrol with this certificate of the site's own authority instead.")
    ] = None,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Make a one-time token with which one device joins, or take a certificate of the site's authority."""
    labels = key_values(label)
    with session(address, home, app) as connected:
        if certificate is not None:
            try:
                pem = certificate.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise NotFound(
                    f"{certificate} cannot be read", fix="Name the device's PEM certificate."
                ) from error
            enrolled = connected.edge.register(pem, labels)
            if as_json:
                print_json(enrolled)
            else:
                typer.echo(f"{enrolled.id} is enrolled with the certificate in {certificate}")
            return
        token = connected.edge.create_token(device, labels, ttl_s=int(home_tools.duration_s(ttl)))
    if as_json:
        print_json(token)
        return
    typer.echo(token.text)
    typer.echo(
        f"The token lets {token.device or 'one device'} in until {when(token.expires_at)}, once. "
        f"On the device: kepler-edge enrol",
        err=True,
    )


@app.command("tokens")
def tokens(as_json: Json = False, address: Address = "", home: Home = "", app: App = "search") -> None:
    """List tokens for devices, newest first; their texts are not kept."""
    with session(address, home, app) as connected:
        found = connected.edge.tokens()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            item.id,
            item.device or "any",
            _labels(item.labels),
            item.created_by,
            when(item.expires_at),
            item.used_by,
        )
        for item in found
    ]
    print_table(("token", "for", "labels", "made by", "expires", "used by"), rows)


@app.command("label")
def label_(
    device: Device,
    label: Labels = None,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Replace the labels of a device."""
    with session(address, home, app) as connected:
        _show_device(connected.edge.set_labels(device, key_values(label)), as_json)


@app.command("revoke")
def revoke(
    device: Device, as_json: Json = False, address: Address = "", home: Home = "", app: App = "search"
) -> None:
    """Put a device out of the fleet: its messages hold no more, and the broker's list names its certificate."""
    with session(address, home, app) as connected:
        _show_device(connected.edge.revoke(device), as_json)


@app.command("rollout")
def rollout(
    rollout_id: Annotated[
        str, typer.Argument(metavar="[ROLLOUT]", help="Id of a rollout; without one all are listed.")
    ] = "",
    pause: Annotated[
        bool, typer.Option("--pause", help="Begin nothing more; what was offered goes on.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on; failures so far are accepted.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End it: who has the release keeps it.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept with the rollout.")] = "",
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """List rollouts; pause, resume or stop one."""
    actions = [name for name, wanted in (("pause", pause), ("resume", resume), ("stop", stop)) if wanted]
    if len(actions) > 1 or (actions and not rollout_id):
        raise InvalidInput(
            "One action on one rollout at a time", fix="Write kepler edge rollout ROLLOUT --pause."
        )
    with session(address, home, app) as connected:
        if not rollout_id:
            found = connected.edge.rollouts()
            if as_json:
                print_json(found)
            else:
                rows = [
                    (
                        item.id,
                        item.state,
                        f"{item.model}@{item.version}",
                        item.selector,
                        when(item.created_at),
                        item.reason,
                    )
                    for item in found
                ]
                print_table(("rollout", "state", "model", "to", "created", "reason"), rows)
            return
        if actions:
            _show_rollout(connected.edge.change_rollout(rollout_id, actions[0], reason), as_json)
        else:
            _show_rollout(connected.edge.rollout(rollout_id), as_json)


@app.command("status")
def status(
    name: Annotated[
        str, typer.Argument(metavar="ROLLOUT|DEVICE", help="Id of a rollout, or name of a device.")
    ],
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Show a rollout with its devices, or one device."""
    with session(address, home, app) as connected:
        try:
            _show_rollout(connected.edge.rollout(name), as_json)
        except NotFound:
            _show_device(connected.edge.device(name), as_json)


@app.command("logs")
def logs(
    name: Annotated[
        str, typer.Argument(metavar="ROLLOUT|DEVICE", help="Id of a rollout, or name of a device.")
    ],
    device: Annotated[str, typer.Option(help="Only what one device told of the rollout.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Newest lines to show.")] = 100,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Show what devices told of a rollout, or fetch the log of a device."""
    with session(address, home, app) as connected:
        try:
            lines = connected.deployments.logs(name, device, limit=limit)
        except NotFound:
            _ask(connected.edge.command(name, "logs", {"limit": str(limit)}, wait_s=60.0), as_json)
            return
    if as_json:
        print_json(lines)
    else:
        for line in lines:
            typer.echo(f"{when(line.ts)}  {line.where}  {line.text}")


@app.command("rollback")
def rollback(
    rollout_id: RolloutId,
    dry_run: DryRun = False,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Give all devices of a rollout back what they had before."""
    with session(address, home, app) as connected:
        show_changes(connected.deployments.rollback(rollout_id, dry_run=dry_run), as_json, dry_run)


@app.command("command")
def command(
    device: Device,
    verb: Annotated[
        str,
        typer.Argument(
            metavar="VERB", help="ping, diag, logs, rebirth, flush, pause, resume, rollback, rotate-cert."
        ),
    ],
    params: Params = None,
    wait_s: Annotated[
        float, typer.Option("--wait", min=1, max=600, help="Seconds to wait for the answer.")
    ] = 30.0,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Send a device a command and show what it answers."""
    with session(address, home, app) as connected:
        _ask(connected.edge.command(device, verb, key_values(params), wait_s=wait_s), as_json)


@app.command("broker")
def broker(
    host: Annotated[
        list[str], typer.Option(help="Name or address that devices reach the broker by; may be repeated.")
    ],
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the files are written.")],
    home: home_tools.Home = None,
    config: home_tools.Config = None,
    as_json: home_tools.Json = False,
) -> None:
    """Write the files a broker needs: the fleet's authority, a certificate with its key, the list of revoked ones."""
    import time

    from kepler.adapters.fleet.authority import FleetAuthority
    from kepler.adapters.security.private_files import write_private

    with home_tools.opened(home, config) as security:
        authority = FleetAuthority(security.secrets)
        certificate, key = authority.server_pair(list(host))
        current = security.home / "edge" / "crl.pem"
        revoked = current.read_text("utf-8") if current.exists() else authority.revocations([], time.time())
        files = {
            "ca.pem": authority.ca_pem,
            "broker.pem": certificate,
            "broker-key.pem": key,
            "crl.pem": revoked,
        }
        for name, text in files.items():
            write_private(to / name, text.encode())
            if name != "broker-key.pem":
                (to / name).chmod(0o644)
        home_tools.audit(security, "edge.broker", ",".join(host)[:200])
    if as_json:
        home_tools.print_json({"folder": str(to), "files": sorted(files)})
        return
    typer.echo(f"{', '.join(sorted(files))} are in {to}; let the broker's user read broker-key.pem.")


def _ask(answers: Iterable[EdgeAnswer], as_json: bool) -> None:
    for answer in answers:
        if as_json:
            print_json(answer)
        else:
            typer.echo(f"{answer.stage}  {answer.text}".rstrip())
            for name, value in answer.data.items():
                typer.echo(f"  {name}: {value}")
        if answer.stage == "failed":
            raise Unavailable("The device could not do it", cause=answer.text)


def _labels(labels: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def _device_row(item: EdgeDevice) -> tuple[str, ...]:
    state = item.state if item.state != "enrolled" else ("online" if item.online else "offline")
    step = "in step" if item.rev_applied >= item.rev else f"{item.rev_applied} of {item.rev}"
    models = " ".join(f"{model.name}:{model.text}" for model in item.models)
    return (item.id, state, _labels(item.labels), when(item.seen_at), item.agent, models, step, item.error)


def _show_device(item: EdgeDevice, as_json: bool) -> None:
    if as_json:
        print_json(item)
        return
    names = ("device", "state", "labels", "seen", "agent", "models", "desired", "error")
    rows = [*zip(names, _device_row(item), strict=True)]
    rows += [
        ("enrolled", when(item.enrolled_at)),
        ("certificate ends", when(item.certificate_expires_at)),
        ("can", " ".join(item.caps)),
    ]
    print_table(("field", "value"), [row for row in rows if row[1]])


def _show_rollout(item: EdgeRollout, as_json: bool) -> None:
    if as_json:
        print_json(item)
        return
    rows = [
        ("rollout", item.id),
        ("state", item.state),
        ("reason", item.reason),
        ("model", f"{item.model}@{item.version}"),
        ("to", item.selector),
        (
            "stage",
            f"{item.stage} of {len(item.stages)}: {', '.join(f'{share:.0%}' for share in item.stages)}",
        ),
        (
            "devices",
            f"{item.committed} of {item.devices} have it, {item.underway} on the way, {item.failed} failed",
        ),
        ("plan", " ".join(f"{name}={value}" for name, value in item.plan.items())),
        ("created", when(item.created_at)),
        ("ended", when(item.ended_at)),
    ]
    print_table(("field", "value"), [row for row in rows if row[1]])
    if item.parts:
        typer.echo("")
        print_table(
            ("device", "stage", "state", "step", "offered", "reason"),
            [
                (part.device, str(part.stage), part.part, part.step, when(part.offered_at), part.reason)
                for part in item.parts
            ],
        )
