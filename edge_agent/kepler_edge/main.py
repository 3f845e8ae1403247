"""The command line: `kepler-edge run|enrol|check|version`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from . import __version__
from .errors import KeplerError, Unavailable
from .settings import load, make

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 75  # EX_TEMPFAIL: worth trying again


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and ends the process with its exit code."""
    sys.exit(main(arguments))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns 0, 1 for what somebody must see to, 75 for what is worth trying again."""
    parsed = _parser().parse_args(arguments)
    try:
        return parsed.run(parsed)
    except Unavailable as error:
        _say(error.sentence)
        return EXIT_UNAVAILABLE
    except KeplerError as error:
        _say(error.sentence)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kepler-edge", description="Scores ONNX models beside machines.")
    parser.add_argument("--settings", type=Path, help="file of settings, JSON or TOML")
    parser.add_argument("--home", type=Path, help="folder of the device's state")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run_parser = commands.add_parser("run", help="run the agent until it is told to stop")
    run_parser.set_defaults(run=_run)
    enrol_parser = commands.add_parser("enrol", help="get a certificate for this device")
    enrol_parser.add_argument(
        "--service", required=True, metavar="URL", help="https://host:port of the service"
    )
    enrol_parser.add_argument(
        "--ca", required=True, type=Path, metavar="FILE", help="who signed its certificate"
    )
    enrol_parser.add_argument("--device", help="name of this device, a-z, 0-9 and -")
    enrol_parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="holds the one-time token; without it, standard input does",
    )
    enrol_parser.set_defaults(run=_enrol)
    check_parser = commands.add_parser("check", help="say whether this device is ready, and what is missing")
    check_parser.set_defaults(run=_check)
    version_parser = commands.add_parser("version", help="print the version")
    version_parser.set_defaults(run=_version)
    return parser


def _load(parsed: argparse.Namespace, **more: object) -> object:
    settings = load(parsed.settings)
    values = {name: value for name, value in {"home": parsed.home, **more}.items() if value}
    return make(values, settings)


def _run(parsed: argparse.Namespace) -> int:
    from .agent import Agent  # the other commands need no onnxruntime and no paho
    from .settings import Settings

    settings = _load(parsed)
    assert isinstance(settings, Settings)
    agent = Agent(settings)

    def stop(_number: int, _frame: object) -> None:
        agent.ask_to_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        agent.start()
        agent.wait()
    finally:
        agent.close()
    return 0


def _enrol(parsed: argparse.Namespace) -> int:
    from .enrol import enrol
    from .settings import Settings

    settings = _load(parsed, device=parsed.device)
    assert isinstance(settings, Settings)
    try:
        token = parsed.token_file.read_text("utf-8") if parsed.token_file else sys.stdin.readline()
    except (OSError, ValueError) as error:
        _say(f"The token cannot be read: {error}")
        return EXIT_USAGE
    found = enrol(settings, parsed.service, token.strip(), parsed.ca)
    _print({"device": found.device, "tenant": found.tenant, "broker": found.broker})
    return 0


def _check(parsed: argparse.Namespace) -> int:
    from .check import findings
    from .settings import Settings

    settings = _load(parsed)
    assert isinstance(settings, Settings)
    found = findings(settings)
    _print(found)
    return 0 if all(item["ok"] for item in found.values()) else EXIT_FAILED


def _version(_: argparse.Namespace) -> int:
    _print({"version": __version__})
    return 0


def _print(value: object) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(value, indent=2) + os.linesep)


def _say(text: str) -> None:
    sys.stderr.write(text + os.linesep)
