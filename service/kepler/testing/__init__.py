"""Checks that plugin authors run on what they write; ours run on ours."""

from kepler.testing.algorithms import RecordingRun, check_algorithm, example_rows

__all__ = ["RecordingRun", "check_algorithm", "example_rows"]
