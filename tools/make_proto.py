"""Generate service/kepler/v1 from proto/kepler/v1, or check that it is up to date.

The same code serves the service and the Splunk app: grpcio-tools is held at 1.80 so that the protobuf
runtime of CPython 3.9 (6.33) loads it. The app build copies the message modules.
"""

from __future__ import annotations

import argparse
import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "service" / "kepler" / "v1"
EDGE = ROOT / "edge_agent" / "kepler_edge"
EDGE_HUB = ("edgehub_pb2.py", "edgehub_pb2.pyi")  # messages alone: the agent calls by name
INIT = '"""Generated from proto/kepler/v1 by `make proto`. Do not edit."""\n'


def generate(target: Path) -> None:
    """Write the generated package ``kepler/v1`` below ``target``."""
    sources = sorted(
        str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto/kepler/v1").glob("*.proto")
    )
    command = [
        sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}",
        f"--python_out={target}", f"--pyi_out={target}", f"--grpc_python_out={target}", *sources,
    ]  # fmt: skip
    subprocess.run(command, check=True, cwd=ROOT)
    package = target / "kepler" / "v1"
    for path in package.glob("*_pb2_grpc.py"):
        if "Servicer" not in path.read_text():
            path.unlink()  # common.proto has no service
    (package / "__init__.py").write_text(INIT)
    edge = [
        sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto/thirdparty/edgehub'}",
        f"--python_out={target}", f"--pyi_out={target}", "edgehub.proto",
    ]  # fmt: skip
    subprocess.run(edge, check=True, cwd=ROOT)
    stub = target / EDGE_HUB[1]
    stub.write_text(
        "# pyright: basic\n" + stub.read_text()
    )  # the agent is checked strictly, and this is not ours


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing, fail when something would change"
    )
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = Path(folder) / "kepler" / "v1"
        names = sorted({path.name for path in fresh.iterdir()} | {path.name for path in OUT.glob("*.py*")})
        stale = [
            name
            for name in names
            if not (OUT / name).exists()
            or not (fresh / name).exists()
            or not filecmp.cmp(fresh / name, OUT / name, shallow=False)
        ]
        for name in EDGE_HUB:
            made = Path(folder) / name
            if not (EDGE / name).exists() or not filecmp.cmp(made, EDGE / name, shallow=False):
                stale.append(name)
        if check:
            if stale:
                sys.stderr.write(
                    "Generated code differs from proto/: run `make proto`. " + ", ".join(stale) + "\n"
                )
            return 1 if stale else 0
        OUT.mkdir(parents=True, exist_ok=True)
        for name in stale:
            if name in EDGE_HUB:
                (EDGE / name).write_bytes((Path(folder) / name).read_bytes())
            elif (fresh / name).exists():
                (OUT / name).write_bytes((fresh / name).read_bytes())
            else:
                (OUT / name).unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
