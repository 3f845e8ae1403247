"""Which options of a prediction a model version can honour."""

from __future__ import annotations

from kepler.core.errors import InvalidInput
from kepler.core.manifest import Manifest
from kepler.ports.serving import PredictOptions

ON_MISSING = ("warn", "error", "null")


def check_options(manifest: Manifest, full_name: str, options: PredictOptions) -> None:
    """Raise `InvalidInput` for an option that the version cannot honour."""
    if options.on_missing not in ON_MISSING:
        raise InvalidInput(
            f"Invalid value for on_missing: {options.on_missing[:40]!r}", fix="Use warn, error or null."
        )
    if options.probabilities:
        manifest.outputs.check_probabilities(f"{full_name} ({manifest.algorithm})")
    if options.overrides:
        name = sorted(options.overrides)[0]
        raise InvalidInput(
            f"{manifest.algorithm} has no option {name[:60]!r} to change when predicting",
            fix=f"Leave out {name[:60]}=..., or train again with it.",
        )
