"""Run the stand-in by hand: `PYTHONPATH=tests python -m fakes.splunkd --app build/app/kepler --lookups DIR`.

Without --search it serves the REST API until it is interrupted, and prints one ready line with its address. With
--search it runs that one search, prints the table and ends: 0, or 1 when the search failed.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence

from .engine import SearchResult
from .splunkd import Splunkd


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m fakes.splunkd", description="A stand-in for splunkd.")
    made.add_argument(
        "--app", action="append", default=[], metavar="DIR", help="an app's folder; may be repeated"
    )
    made.add_argument("--lookups", metavar="DIR", help="a folder of CSV files for inputlookup")
    made.add_argument(
        "--python", metavar="VERSION", help="3.9, 3.13 or a path; the running Python by default"
    )
    made.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for every script")
    made.add_argument("--host", default="127.0.0.1", help="where the REST API listens (127.0.0.1)")
    made.add_argument("--port", type=int, default=8089, help="its port; 0 takes a free one (8089)")
    made.add_argument("--http", action="store_true", help="serve without TLS")
    made.add_argument("--password", default="changeme-standin", help="of the user admin")
    made.add_argument(
        "--search", action="append", default=[], metavar="SPL", help="run it, print its table and end"
    )
    made.add_argument("--json", action="store_true", help="print each result as JSON")
    made.add_argument("--probes", type=int, default=1, help="how often a command is started just to plan (1)")
    return made


def show(result: SearchResult, *, as_json: bool) -> None:
    if as_json:
        messages = [{"type": level, "text": text} for level, text in result.messages]
        print(
            json.dumps({"rows": result.rows, "messages": messages, "state": result.state}, ensure_ascii=False)
        )
        return
    for level, text in result.messages:
        print(f"{level}: {text}")
    rows = [[row[f] for f in result.fields] for row in result.rows]
    widths = [max([len(f), *(len(row[i]) for row in rows)]) for i, f in enumerate(result.fields)]
    for row in [result.fields, *rows] if result.fields else []:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def main(arguments: Sequence[str] | None = None, stop: threading.Event | None = None) -> int:
    given = parser().parse_args(arguments)
    splunkd = Splunkd(
        given.app,
        given.lookups,
        python=given.python,
        env=dict(pair.partition("=")[::2] for pair in given.env),
        tls=not given.http,
        host=given.host,
        port=given.port if not given.search else 0,
        admin_password=given.password,
        probes=given.probes,
    )
    with splunkd:
        if given.search:
            results = [splunkd.search(search) for search in given.search]
            for result in results:
                show(result, as_json=given.json)
            return int(any(result.is_failed for result in results))
        print(f"splunkd stand-in ready {splunkd.uri} user=admin", flush=True)
        ended = stop or threading.Event()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: ended.set())
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
