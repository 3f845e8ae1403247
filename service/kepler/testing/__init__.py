"""Checks that plugin authors run on what they write; ours run on ours."""

from kepler.testing.algorithms import RecordingRun, check_algorithm, example_rows
from kepler.testing.targets import RecordingWork, TargetBench, check_target

__all__ = ["RecordingRun", "RecordingWork", "TargetBench", "check_algorithm", "check_target", "example_rows"]
