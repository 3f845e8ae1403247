"""Helpers of tests that run without pytest too: under CPython 3.9 and 3.13 there is only the standard library."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from kepler_app.errors import SearchError


@contextlib.contextmanager
def refused(*words: str) -> Iterator[None]:
    """The block fails with one sentence that holds ``words``."""
    sentence = ""
    try:
        yield
    except SearchError as error:
        sentence = error.sentence
    assert sentence, f"nothing was refused; expected {words}"
    missing = [word for word in words if word not in sentence]
    assert not missing, f"{missing} not in {sentence!r}"
    assert "\n" not in sentence
    assert sentence[-1] == ".", sentence


def run_file(path: Path) -> int:
    """Run every ``test_*`` function without arguments in ``path``; gives how many there were."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    count = 0
    for name, test in vars(module).items():
        if name.startswith("test_") and inspect.isfunction(test) and not inspect.signature(test).parameters:
            test()
            count += 1
    return count


if __name__ == "__main__":
    total = sum(run_file(Path(argument)) for argument in sys.argv[1:])
    sys.stdout.write(f"{total} passed under {sys.version.split()[0]}\n")
