"""Imported by an idle worker, for its effect: what a process does once, whatever it trains, is done before
the rows are there. Together about 0.2 s.
"""

from __future__ import annotations

import kepler.adapters.formats.onnx_check
import kepler.adapters.formats.write_linear  # noqa: F401
from kepler.adapters.jobs.training_main import environment
from kepler.algorithms._scores import threads_limited
from kepler.registry import default_registry

default_registry()
environment()
with threads_limited(1):  # looks through the loaded libraries for thread pools, once
    pass
