"""``kepler serve``: run the service until it is asked to stop."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated

import typer

from kepler.core.errors import KeplerError

app = typer.Typer(help="Run the service.")


@app.command("serve")
def command(
    home: Annotated[
        Path | None, typer.Option(help="Folder of everything the service keeps. [default: ~/.kepler]")
    ] = None,
    grpc: Annotated[
        str | None, typer.Option(help="HOST:PORT of gRPC; port 0 takes a free one. [default: 127.0.0.1:8790]")
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of health and metrics; port 0 takes a free one. [default: 127.0.0.1:8791]"
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings file in place of kepler.toml in the home.")
    ] = None,
    require_token: Annotated[
        bool | None, typer.Option("--require-token", help="Ask for tokens on loopback too. Needs TLS.")
    ] = None,
) -> None:
    """Run the service until SIGTERM or Ctrl-C; what is in flight then ends first.

    Prints ``kepler ready grpc=HOST:PORT http=HOST:PORT`` once it answers, and writes service.json into its home.
    """
    # Importing makes half a million objects that all stay: looking for garbage among them takes a quarter of
    # the start, and later a part of each full collection.
    gc.disable()
    try:
        from kepler.service import serve
        from kepler.settings import load_settings
    finally:
        gc.freeze()
        gc.enable()

    flags = {"home": home, "grpc": grpc, "http": http, "require_token": require_token}
    try:
        settings = load_settings(config, flags)
    except KeplerError as error:
        typer.echo(error.sentence, err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(serve(settings))
