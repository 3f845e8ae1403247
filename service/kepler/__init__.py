"""Kepler for Splunk: train, predict, version and deploy machine learning from SPL and Python.

``import kepler as kp`` gives the SDK; its parts load on first use so that the command line and the
service start quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from kepler.sdk import connect, data, job, jobs, models, predict, score, summary, train

__all__ = [
    "__version__",
    "connect",
    "data",
    "job",
    "jobs",
    "models",
    "predict",
    "score",
    "summary",
    "train",
]


if not TYPE_CHECKING:  # type checkers must notice a slip in a name

    def __getattr__(name: str) -> Any:
        if name in __all__:
            from kepler import sdk

            return getattr(sdk, name)
        raise AttributeError(f"module 'kepler' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
