"""``kepler token``: who may call the service."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kepler.adapters.cli.home_tools import (
    Config,
    Home,
    Json,
    at,
    audit,
    duration_s,
    opened,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from kepler.ports.security import TokenInfo

app = typer.Typer(help="Create, list and revoke the tokens of this machine's service.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the token is for, for example the search head's name.")],
    can: Annotated[
        str, typer.Option("--can", help="Capabilities with commas: train, predict, deploy, admin, issue.")
    ],
    user: Annotated[
        str, typer.Option("--user", help="User the token speaks for; empty: the name of the token.")
    ] = "",
    ttl: Annotated[str, typer.Option("--ttl", help="Lifetime: 90d, 12h, 30m, 45s or never.")] = "90d",
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Create a token and print it once; only its hash is kept."""
    capabilities = frozenset(item.strip() for item in can.split(",") if item.strip())
    lifetime_s = duration_s(ttl)
    with opened(home, config) as security:
        info, text = security.tokens.create(name, user or name, capabilities, lifetime_s)
        detail = {
            "name": name,
            "user": info.user,
            "can": ",".join(sorted(capabilities)),
            "expires": at(info.expires_at),
        }
        audit(security, "token.create", info.id, detail)
    if as_json:
        print_json({**_fields(info, 0.0), "token": text})
        return
    typer.echo(text)
    expiry = f"expires {at(info.expires_at)}" if info.expires_at else "never expires"
    typer.echo(f"Token {info.id} of {info.user} {expiry}. It is not shown again.", err=True)


@app.command("list")
def list_(home: Home = None, config: Config = None, as_json: Json = False) -> None:
    """List all tokens, without their secrets."""
    with opened(home, config) as security:
        used = security.tokens.last_used()
        infos = security.tokens.list()
    if as_json:
        print_json([_fields(info, used.get(info.id, 0.0)) for info in infos])
        return
    rows = [
        (
            info.id,
            info.name,
            info.user,
            ",".join(sorted(info.capabilities)),
            "revoked" if info.revoked else at(info.expires_at),
            at(used.get(info.id, 0.0)),
        )
        for info in infos
    ]
    print_table(("ID", "NAME", "USER", "CAN", "EXPIRES", "LAST USED"), rows)


@app.command("revoke")
def revoke(
    token_id: Annotated[
        str, typer.Argument(metavar="ID", help="The token's id, as `kepler token list` shows it.")
    ],
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """End a token at once, with every user token issued from it."""
    with opened(home, config) as security:
        info = security.tokens.revoke(token_id)
        audit(security, "token.revoke", info.id, {"name": info.name, "user": info.user})
    if as_json:
        print_json(_fields(info, 0.0))
        return
    typer.echo(f"Token {info.id} ({info.name}) is revoked.")


def _fields(info: TokenInfo, last_used_at: float) -> dict[str, Any]:
    return {**asdict(info), "capabilities": sorted(info.capabilities), "last_used_at": last_used_at}
