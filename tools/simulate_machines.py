"""A simulator of machine failures, for the demo. Its rows are made up, and every place that shows them says so.

Twelve milling machines run in shifts. Each hour gives the mean spindle speed (rpm), torque (Nm), air and
process temperature (K), vibration (mm/s) and the tool's wear (min). A failure within the next day becomes
likelier, by a logistic law, with wear times torque, with heat that is not carried off, and with vibration
that wear and speed raise. Nothing is tuned to any algorithm; the law's coefficients stand below.
"""

from __future__ import annotations

import csv
import io

import numpy as np

FIELDS = (
    "machine", "product", "rot_speed_rpm", "torque_nm", "air_temp_k", "process_temp_k", "vibration_mm_s",
    "tool_wear_min", "failure",
)  # fmt: skip


def simulate(rows: int = 6_000, seed: int = 7) -> str:
    """CSV text with a header and ``rows`` machine hours; the same seed gives the same text."""
    rng = np.random.default_rng(seed)
    machine = rng.integers(1, 13, rows)
    product = rng.choice(["L", "M", "H"], rows, p=[0.6, 0.3, 0.1])
    wear = rng.uniform(0, 250, rows)
    power_w = rng.normal(6_300, 900, rows)
    speed = rng.normal(1_540, 130, rows)
    torque = power_w / (speed * 2 * np.pi / 60)
    air = rng.normal(300, 2, rows)
    process = air + rng.normal(10, 1, rows) + (power_w - 6_300) / 4_000
    vibration = 1.5 + 0.006 * wear + 0.0015 * (speed - 1_540) + rng.gamma(2.0, 0.3, rows)
    quality = np.select([product == "L", product == "M"], [0.4, 0.0], -0.4)
    risk = (
        -5.9
        + quality
        + 0.0003 * wear * torque
        + 0.5 * np.maximum(0, process - air - 10)
        + 0.55 * (vibration - 2)
    )
    failure = (rng.random(rows) < 1 / (1 + np.exp(-risk))).astype(int)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FIELDS)
    columns = [
        [f"mill-{number:02}" for number in machine], product, speed.round(0).astype(int), torque.round(1),
        air.round(1), process.round(1), vibration.round(2), wear.round(0).astype(int), failure,
    ]  # fmt: skip
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue()
