"""What a worker process does with a job's folder: wire the parts and train."""

from __future__ import annotations

import platform
import secrets
import sys
import time
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from kepler import __version__
from kepler.adapters.formats import SafeModelFormats
from kepler.adapters.jobs.stack_log import log_stack
from kepler.adapters.storage.training_folder import TrainingFolder
from kepler.core.algorithms import Run
from kepler.core.errors import InternalError, KeplerError
from kepler.core.jobs import Failure
from kepler.core.training import TrainOutcome, TrainSpec
from kepler.registry import default_registry
from kepler.usecases.fit import Surroundings, fit_model

# What decides the numbers of a model; recorded in its manifest.
RECORDED = (
    "numpy",
    "scipy",
    "scikit-learn",
    "onnx",
    "onnxruntime",
    "skops",
    "lightgbm",
    "xgboost-cpu",
    "xgboost",
    "catboost",
    "pyarrow",
)
SPEC_FILE = "spec.json"


def train_in_folder(folder: Path, run: Run) -> TrainOutcome:
    """Train as ``folder/spec.json`` says on ``folder/rows.arrow``. A failed training is an outcome.

    Only `MemoryError` and `OSError` are raised: what limit they met is the worker's to say.

    An unexpected failure is an `InternalError` with an opaque id; its stack is in the log under that id.
    Neither a message nor a local variable of it is: both may hold values of the rows.
    """
    try:
        spec = TrainSpec.from_json((folder / SPEC_FILE).read_text("utf-8"))
        surroundings = Surroundings(__version__, environment(), time.time())
        return fit_model(
            spec, TrainingFolder(folder), default_registry(), SafeModelFormats(), run, surroundings
        )
    except KeplerError as error:
        return TrainOutcome(failure=Failure.of(error))
    except (MemoryError, OSError):
        raise  # out of memory, or a full disk: the worker knows its limits and says so
    except Exception as failure:
        error_id = secrets.token_hex(6)
        log_stack(failure)
        sys.stderr.write(f"error id {error_id}\n")
        unexpected = InternalError(
            "The training failed for a reason Kepler did not foresee",
            cause=f"The service's log has the details under error id {error_id}",
            fix="Try other parameters or another algorithm, and report the error id",
        )
        return TrainOutcome(failure=Failure.of(unexpected))


@lru_cache(maxsize=1)
def environment() -> dict[str, str]:
    """Versions of Python and of the libraries in `RECORDED` that are installed."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()}-{platform.machine()}"}
    for name in RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
