"""Write docs/reference/errors.md from the error classes and the adapters' tables, or check that it is current."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kepler.adapters.cli.exit_codes import EXIT_CODES
from kepler.adapters.http.problems import STATUS
from kepler.client.errors import GRPC_CODES
from kepler.core.errors import ALL_ERRORS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "errors.md"
HEAD = """# Errors

Every error says what went wrong, why, and what to do next, in one sentence each. In a search it is the search's
error; on the command line it goes to standard error; over gRPC it is the status message, and its parts travel
as `kepler.v1.ErrorDetail` in `google.rpc.Status.details`; over HTTP it is `application/problem+json`.

`code` is stable: programs compare it and never the text. A retry helps where it says so.

| `code` | means | gRPC | HTTP | exit code | retry |
| --- | --- | --- | --- | --- | --- |
"""


def page() -> str:
    rows = [
        f"| `{kind.__name__}` | {(kind.__doc__ or '').strip().splitlines()[0]} | `{GRPC_CODES[kind].name}` "
        f"| {STATUS[kind].value} | {EXIT_CODES[kind]} | {'yes' if kind.retryable else 'no'} |\n"
        for kind in ALL_ERRORS
    ]
    return HEAD + "".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing, fail when something would change"
    )
    if parser.parse_args().check:
        if PAGE.read_text(encoding="utf-8") != page():
            sys.stderr.write("docs/reference/errors.md is not current: run `make docs`.\n")
            return 1
        return 0
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
