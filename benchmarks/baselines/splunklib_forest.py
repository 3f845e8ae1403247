"""Baseline (a): a splunklib StreamingCommand that predicts in its own process with a 100-tree forest.

The way a careful engineer writes it today: rows gathered in batches of 10,000, one predict per batch. The
model is trained by the bench beforehand and read with joblib from BASELINE_MODEL.
"""

import os
import sys

import joblib
import numpy as np
from splunklib.searchcommands import Configuration, StreamingCommand, dispatch

FIELDS = os.environ["BASELINE_FIELDS"].split("\t")
BATCH = 10_000


@Configuration(distributed=False)
class Forest(StreamingCommand):
    def stream(self, records):
        model = joblib.load(os.environ["BASELINE_MODEL"])
        batch = []
        for record in records:
            batch.append(record)
            if len(batch) == BATCH:
                yield from self.predict(model, batch)
                batch = []
        if batch:
            yield from self.predict(model, batch)

    def predict(self, model, batch):
        matrix = np.array([[float(record[name]) for name in FIELDS] for record in batch])
        for record, value in zip(batch, model.predict(matrix)):  # noqa: B905 - CPython 3.9
            record["predicted"] = value
            yield record


dispatch(Forest, sys.argv, sys.stdin, sys.stdout, __name__)
