"""Many small predictions at once over mutual TLS, beside a bare gRPC echo server in the same run.

1,000 concurrent streams of 10 messages on 10 connections: 0 errors, p99 <= 1 s, service RSS growth
<= 150 MB, >= 3,000 messages/s. Unary: 16 clients, p99 <= 50 ms, >= 800 calls/s. The ratio to the echo server
says what the service adds; the absolute figures need a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.harness.echo_server import echo_server
from benchmarks.harness.service import Service, service
from benchmarks.harness.stream_load import COLUMNS, Order, Seen, load
from kepler.adapters.security.home import HomeSecurity
from kepler.adapters.security.tls import make_self_signed
from kepler.bootstrap import SystemClock
from kepler.client import Access, KeplerClient
from kepler.client.records import TrainOrder

MIB = 2**20


def rss_bytes(pid: int, name: str = "VmRSS") -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def train(kepler: Service, access: Access) -> None:
    rows = b"".join(b"%d,%d,%d\n" % (a, b, 2 * a - 3 * b + 1) for a in range(40) for b in range(5))
    order = TrainOrder("LinearRegression", (*COLUMNS, "y"), target="y", features=("*",), into="app:line",
                       output="none")  # fmt: skip
    with KeplerClient(access, user="load") as client:
        *_, job = client.watch_job(client.train(order, [rows]).job_id)
        if job.failure:
            raise RuntimeError(job.failure.message)


def report(seen: Seen, base: Seen) -> dict[str, object]:
    return {
        "answers": seen.answers,
        "errors": len(seen.errors),
        "first_errors": seen.errors[:3],
        "wrong": seen.wrong,
        "per_s": round(seen.per_s),
        "p50_ms": round(seen.p50_s * 1000, 1),
        "p99_ms": round(seen.p99_s * 1000, 1),
        "open_s": round(seen.open_s, 2),
        "echo_per_s": round(base.per_s),
        "echo_p99_ms": round(base.p99_s * 1000, 1),
        "share_of_echo": round(seen.per_s / base.per_s, 2),
        "p99_to_echo": round(seen.p99_s / base.p99_s, 2),
    }


def ready_after_kill(kepler: Service, env: dict[str, str]) -> dict[str, float]:
    """Kill -9, start again on the same home: seconds to the ready line, beside importing the service alone."""
    os.kill(kepler.pid, signal.SIGKILL)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import kepler.bootstrap"], check=True)
    imported = time.perf_counter() - started
    command = [sys.executable, "-m", "kepler", "serve", "--home", str(kepler.home)]
    started = time.perf_counter()
    with subprocess.Popen(
        [*command, "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **env},
    ) as process:  # fmt: skip
        assert process.stdout
        line = process.stdout.readline()
        ready, used = time.perf_counter() - started, cpu_s(process.pid)
        process.terminate()
    if "kepler ready" not in line:
        raise RuntimeError("the service did not come back after kill -9")
    return {
        "ready_s": round(ready, 2),
        "ready_cpu_s": round(used, 2),  # what a machine with other work says too
        "import_alone_s": round(imported, 2),
        "times_import": round(ready / imported, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=10)
    parser.add_argument("--rows", type=int, default=1, help="rows of each message")
    parser.add_argument("--repeat", type=int, default=3, help="the best run counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tls = make_self_signed(folder, ["127.0.0.1"])
        env = {
            "KEPLER_TLS__CERT_FILE": str(tls.server_cert),
            "KEPLER_TLS__KEY_FILE": str(tls.server_key),
            "KEPLER_TLS__CLIENT_CA_FILE": str(tls.ca),
            "KEPLER_REQUIRE_TOKEN": "true",
        }
        found: dict[str, object] = {}
        with (
            service(**env) as kepler,
            echo_server(*map(str, (tls.server_cert, tls.server_key, tls.ca))) as echo,
        ):
            security = HomeSecurity(kepler.home, "file", SystemClock())
            token = security.tokens.create("bench", "load", frozenset({"train", "predict"}), 0.0)[1]
            security.close()
            files = {
                "ca_file": str(tls.ca),
                "cert_file": str(tls.client_cert),
                "key_file": str(tls.client_key),
            }
            train(kepler, Access(home=kepler.home, address=kepler.grpc, token=token, **files))
            order = Order(
                kepler.grpc, "app:line", options.streams, options.messages, options.rows, token=token,
                ca=str(tls.ca), cert=str(tls.client_cert), key=str(tls.client_key),
            )  # fmt: skip
            load(replace(order, streams=10))
            before, used, sent = rss_bytes(kepler.pid), cpu_s(kepler.pid), 0
            Path(f"/proc/{kepler.pid}/clear_refs").write_text("5")  # the peak counts from here
            pairs: list[tuple[Seen, Seen]] = []
            for _ in range(options.repeat):
                pairs.append((load(order), load(replace(order, address=echo, model="", token=""))))
                sent += pairs[-1][0].answers
            streams = report(*max(pairs, key=lambda pair: pair[0].per_s))
            streams["rss_growth_mib"] = round((rss_bytes(kepler.pid, "VmHWM") - before) / MIB, 1)
            streams["service_cpu_us_per_message"] = round(1e6 * (cpu_s(kepler.pid) - used) / max(sent, 1))
            found["streams"] = streams
            one = replace(order, streams=16, messages=200, rows=1, unary=True)
            pairs = [
                (load(one), load(replace(one, address=echo, model="", token="")))
                for _ in range(options.repeat)
            ]
            found["unary"] = report(*max(pairs, key=lambda pair: pair[0].per_s))
            found["after_kill_9"] = ready_after_kill(kepler, env)
        found["at"] = time.strftime("%Y-%m-%d")
        print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
