"""``kepler tls``: certificates for trying out and for small sites."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from kepler.adapters.cli.home_tools import Config, Home, Json, audit, opened, print_json

app = typer.Typer(help="Make certificates for this machine's service.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Make certificates for this machine's service."""


@app.command("init")
def init(
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host", help="Name or address that clients use; may be repeated. [default: localhost]"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace certificates that are there.")] = False,
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make an authority of this home, and a server and a client certificate from it.

    The authority is kept and used again, so that with --force clients that trust it need no change.
    """
    from kepler.adapters.security.tls import make_self_signed

    asked: list[str] = (host or []) + ["localhost", "127.0.0.1", "::1"]
    hosts = list(dict.fromkeys(asked))
    with opened(home, config) as security:
        made = make_self_signed(security.home, hosts, force=force)
        audit(security, "tls.init", ",".join(hosts))
    paths = {name: str(path) for name, path in asdict(made).items()}
    if as_json:
        print_json({**paths, "hosts": hosts})
        return
    typer.echo(f'# For the service, in kepler.toml:\n[tls]\ncert_file = "{paths["server_cert"]}"')
    typer.echo(f'key_file = "{paths["server_key"]}"\n# For clients:\n# export KEPLER_CA_FILE={paths["ca"]}')
