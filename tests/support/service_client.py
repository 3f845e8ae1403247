"""What the tests of a running service share: clients, a model whose answers are known, process figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kepler.client import Access, KeplerClient
from kepler.client.records import ScoredSlice, TrainOrder
from kepler.core.jobs import JobRecord, JobState
from support.running_service import RunningService

MIB = 2**20
COLUMNS = ("a", "b")


@dataclass(frozen=True)
class Line:
    """y = slope a - 3 b + 1, which LinearRegression learns to the last digits."""

    slope: int = 2

    def rows(self, count: int = 200) -> bytes:
        """Rows to train on, with the target."""
        pairs = ((number % 40, number // 40) for number in range(count))
        return b"".join(b"%d,%d,%d\n" % (a, b, self.answer(a, b)) for a, b in pairs)

    def answer(self, a: int, b: int) -> int:
        return self.slope * a - 3 * b + 1

    def says(self, a: int, b: int, values: bytes) -> bool:
        return abs(float(values) - self.answer(a, b)) < 1e-6


def connect(
    service: RunningService, *, token: str = "", ca: Path | str = "", cert: Path | str = "",
    key: Path | str = "", user: str = "ana", timeout_s: float = 30.0,
) -> KeplerClient:  # fmt: skip
    access = Access(service.home, service.grpc, token, str(ca), str(cert), str(key))
    return KeplerClient(access, user=user, timeout_s=timeout_s)


def train(
    client: KeplerClient, into: str, *, line: Line | None = None, algorithm: str = "LinearRegression",
    rows: bytes = b"", columns: tuple[str, ...] = (*COLUMNS, "y"), request_id: str = "", **params: str,
) -> str:  # fmt: skip
    """Send a training; gives the job's id, which the service has acknowledged."""
    order = TrainOrder(
        algorithm, columns, target="y", features=("*",), into=into, output="none", params=params,
        request_id=request_id,
    )  # fmt: skip
    return client.train(order, [rows or (line or Line()).rows()]).job_id


def ended(client: KeplerClient, job_id: str, reconnect_for_s: float = 60.0) -> JobRecord:
    """The final record of a job."""
    *_, record = client.watch_job(job_id, reconnect_for_s=reconnect_for_s)
    assert record.state.final
    return record


def trained(client: KeplerClient, into: str, *, line: Line | None = None) -> str:
    """Train and wait: gives the version's full name."""
    record = ended(client, train(client, into, line=line))
    assert record.state is JobState.SUCCEEDED, record.failure
    return record.model


def predict_one(client: KeplerClient, model: str, a: int, b: int) -> tuple[str, ScoredSlice]:
    """One stream of one row: the version that answered, and its answer."""
    with client.predict(model, COLUMNS, [b"%d,%d\n" % (a, b)]) as stream:
        ((_, scored),) = list(stream)
        return stream.opened.model, scored


def rss_bytes(pid: int, field: str = "VmRSS") -> int:
    """Resident memory of a process; ``VmHWM`` is its peak since `forget_peak`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")
