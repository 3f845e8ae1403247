"""Build the Splunk app: build/app/kepler and dist/kepler-<version>.tar.gz; or inspect it with AppInspect.

UCC makes the configuration page and its conf files; what lies in splunk_app/package wins over what it
generates. Libraries are installed for CPython 3.9, without a single binary module, so one package serves
CPython 3.9 and 3.13 on every CPU. Nothing is built when no input changed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "splunk_app"
BUILD = ROOT / "build"
APP = BUILD / "app" / "kepler"
LIBRARIES = BUILD / "app-lib"
MESSAGES = ROOT / "service" / "kepler" / "v1"
INPUTS = (SOURCE, MESSAGES, ROOT / "requirements" / "app-lib.txt", ROOT / "requirements" / "app-ucc.txt")
COMPILED = {"app-lib": "3.9", "app-ucc": "3.11", "app-inspect": "3.11"}
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.py[co]", "*.so", "*.pyd", "*.pyi", "*.dist-info", "bin")


def uv() -> str:
    """The environment's uv, else the one on PATH."""
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise SystemExit("build_app needs uv. Run `make setup` and use the environment it makes.")
    return found


def run(*command: str | Path) -> None:
    """Run a command; its output is shown only when it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=ROOT)
    if (
        done.returncode or "ERROR: Uncaught exception" in done.stdout + done.stderr
    ):  # ucc-gen exits 0 then, too
        sys.stderr.write(done.stdout + done.stderr)
        raise SystemExit(f"{Path(str(command[0])).name} failed.")


def digest(paths: tuple[Path, ...]) -> str:
    """SHA-256 over names and contents of ``paths`` and what lies below them."""
    sha = hashlib.sha256()
    for path in paths:
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                sha.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return sha.hexdigest()


def fresh(stamp: Path, key: str) -> bool:
    return stamp.exists() and stamp.read_text() == key


def environment(name: str, requirements: str) -> Path:
    """A virtual environment build/<name> holding exactly ``requirements``; gives its bin folder."""
    folder, lock = BUILD / name, ROOT / "requirements" / requirements
    stamp, key = folder / ".stamp", digest((lock,))
    if not fresh(stamp, key):
        run(uv(), "venv", "--quiet", "--clear", "--python", sys.executable, folder)
        run(uv(), "pip", "sync", "--quiet", "--python", folder / "bin" / "python", "--require-hashes", lock)
        stamp.write_text(key)
    return folder / "bin"


def libraries() -> None:
    """Install requirements/app-lib.txt for CPython 3.9 into build/app-lib."""
    lock = ROOT / "requirements" / "app-lib.txt"
    stamp, key = LIBRARIES / ".stamp", digest((lock,))
    if fresh(stamp, key):
        return
    shutil.rmtree(LIBRARIES, ignore_errors=True)
    run(uv(), "pip", "install", "--quiet", "--target", LIBRARIES, "--python-version", "3.9",
        "--no-deps", "--require-hashes", "--requirement", lock)  # fmt: skip
    stamp.write_text(key)


def fill_lib(target: Path) -> None:
    """Libraries without binaries, and the message classes of proto/kepler/v1."""
    shutil.copytree(LIBRARIES, target, ignore=LEFT_OUT, dirs_exist_ok=True)
    for name in (".stamp", ".lock"):
        (target / name).unlink(missing_ok=True)
    _prune_google(target / "google")
    messages = target / "kepler" / "v1"
    messages.mkdir(parents=True)
    (target / "kepler" / "__init__.py").write_text('"""Messages of the Kepler service."""\n')
    (messages / "__init__.py").write_text('"""Generated from proto/kepler/v1."""\n')
    for path in sorted(MESSAGES.glob("*_pb2.py")):
        shutil.copy(path, messages)


def _prune_google(folder: Path) -> None:
    """Of the common message types the client reads google.rpc.Status only."""
    for path in folder.iterdir():
        if path.is_dir() and path.name not in ("protobuf", "rpc", "_upb"):
            shutil.rmtree(path)
    shutil.rmtree(folder / "_upb", ignore_errors=True)
    for path in (folder / "rpc").rglob("*"):
        if path.is_file() and path.name != "status_pb2.py":
            path.unlink()
    shutil.rmtree(folder / "rpc" / "context", ignore_errors=True)


def version() -> str:
    config = json.loads((SOURCE / "globalConfig.json").read_text())
    return str(config["meta"]["version"])


def package(target: Path) -> None:
    """Write ``target``, the same bytes for the same content."""
    target.parent.mkdir(parents=True, exist_ok=True)

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        info.mtime = 0
        info.mode = 0o755 if info.isdir() else 0o644
        return info

    with (
        target.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        archive.add(APP, "kepler", recursive=False, filter=plain)
        for path in sorted(APP.rglob("*")):
            archive.add(path, f"kepler/{path.relative_to(APP)}", recursive=False, filter=plain)


def build() -> Path:
    """Build what changed; gives the package's path."""
    target = ROOT / "dist" / f"kepler-{version()}.tar.gz"
    stamp = BUILD / "app" / ".stamp"
    key = digest((*INPUTS, Path(__file__).resolve()))
    if fresh(stamp, key) and APP.is_dir() and target.exists():
        return target
    ucc = environment("ucc-env", "app-ucc.txt") / "ucc-gen"
    libraries()
    stage = BUILD / "app-stage"
    shutil.rmtree(stage, ignore_errors=True)
    shutil.rmtree(BUILD / "app", ignore_errors=True)
    shutil.copytree(SOURCE, stage, ignore=shutil.ignore_patterns("__pycache__", "*.py[co]"))
    fill_lib(stage / "package" / "lib")
    # Without a requirements file ucc-gen installs nothing, so it runs no pip either.
    run(ucc, "build", "--source", stage / "package", "--config", stage / "globalConfig.json",
        "--ta-version", version(), "--output", BUILD / "app", "--overwrite")  # fmt: skip
    for path in [*APP.rglob("__pycache__")]:
        shutil.rmtree(path)
    binaries = [
        str(path.relative_to(APP)) for path in APP.rglob("*") if path.suffix in (".so", ".pyd", ".dll")
    ]
    if binaries:
        raise SystemExit(f"The app holds binary modules, which Splunk phases out: {', '.join(binaries)}")
    package(target)
    stamp.write_text(key)
    return target


def inspect() -> int:
    """Run AppInspect with all tags; 1 when it finds an error or a failure."""
    target = build()
    tool = environment("inspect-env", "app-inspect.txt") / "splunk-appinspect"
    report = BUILD / "appinspect.json"
    command = [tool, "inspect", target, "--mode", "precert", "--skip-trusted-libraries-update",
               "--data-format", "json", "--output-file", report]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "NO_COLOR": "1"}
    )
    if not report.exists():
        sys.stderr.write(done.stdout + done.stderr)
        raise SystemExit("AppInspect did not run. It needs libmagic: on Debian, apt-get install libmagic1.")
    result = json.loads(report.read_text())
    summary = result["summary"]
    for group in (group for item in result["reports"] for group in item["groups"]):
        for check in group["checks"]:
            if check["result"] in ("error", "failure", "future", "future_failure", "warning"):
                texts = " | ".join(message["message"] for message in check["messages"])
                sys.stdout.write(f"{check['result']:8} {check['name']}: {texts[:400]}\n")
    sys.stdout.write(", ".join(f"{name} {count}" for name, count in summary.items()) + "\n")
    return 1 if summary.get("error") or summary.get("failure") else 0


def compile_requirements() -> None:
    """Pin requirements/app*.in anew, with hashes and no addresses."""
    for name, python in COMPILED.items():
        run(uv(), "pip", "compile", f"requirements/{name}.in", "--python-version", python, "--generate-hashes",
            "--no-emit-index-url", "--no-annotate", "--no-header", "--quiet", "--output-file",
            f"requirements/{name}.txt")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--inspect", action="store_true", help="build, then run splunk-appinspect with all tags"
    )
    parser.add_argument("--compile", action="store_true", help="pin requirements/app*.in anew")
    options = parser.parse_args()
    if options.compile:
        compile_requirements()
        return 0
    if options.inspect:
        return inspect()
    sys.stdout.write(f"{APP.relative_to(ROOT)} and {build().relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
