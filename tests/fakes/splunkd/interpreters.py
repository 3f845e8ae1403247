"""Find the CPython that a Splunk version would run an app's scripts with (facts/splunk_app.md section 2)."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path


class InterpreterMissing(LookupError):
    """No working CPython of that version was found; tests skip with this text."""


def _works(path: str, version: str) -> bool:
    """Whether it starts and is that version: a shim on PATH may name an interpreter that is not active."""
    try:
        done = subprocess.run(
            [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.strip() == version


@functools.cache
def find_python(version: str | None) -> str:
    """The interpreter for `version` ("3.9", "3.13"), a path, or None for the running one.

    Looked for in the variable `KEPLER_PYTHON_3_9` (or `_3_13`), on PATH as `python3.9`, and among the versions
    of pyenv.
    """
    if version is None or version == "{}.{}".format(*sys.version_info):
        return sys.executable
    if os.sep in version:
        # A shim of a version manager may be on PATH and yet start nothing.
        named_version = re.fullmatch(r"python(\d+\.\d+)", Path(version).name)
        if named_version is None or _works(version, named_version[1]):
            return version
        return find_python(named_version[1])
    named = os.environ.get("KEPLER_PYTHON_" + version.replace(".", "_"))
    candidates = [named] if named else []
    candidates += [c for c in [shutil.which("python" + version)] if c]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates += [str(p / "bin" / "python") for p in sorted(pyenv.glob(version + ".*"), reverse=True)]
    for candidate in candidates:
        if _works(candidate, version):
            return candidate
    raise InterpreterMissing(
        f"CPython {version} was not found on PATH as python{version}. Install it or name it in "
        f"KEPLER_PYTHON_{version.replace('.', '_')}."
    )


def has_python(version: str) -> bool:
    try:
        find_python(version)
    except InterpreterMissing:
        return False
    return True
