"""From the client's records to protobuf messages; the way back is `kepler.client.convert`."""

from __future__ import annotations

from kepler.client.records import PredictChoice, ScoreOrder, TrainOrder
from kepler.v1 import common_pb2, prediction_pb2, training_pb2


def train_open_to_proto(order: TrainOrder, caller: common_pb2.Caller) -> training_pb2.TrainOpen:
    return training_pb2.TrainOpen(
        caller=caller,
        algorithm=order.algorithm,
        target=order.target,
        features=order.features,
        by=order.by,
        into=order.into,
        **{"as": order.as_name},  # type: ignore[arg-type]  # `as` is a keyword of Python
        params=order.params,
        columns=order.columns,
        request_id=order.request_id,
        options=training_pb2.TrainOptions(
            output=order.output,
            nulls=order.nulls,
            categoricals=order.categoricals,
            seed=order.seed or 0,
            has_seed=order.seed is not None,
            test_size=order.test_size,
            kfold_cv=order.kfold_cv,
            partial_fit=order.partial_fit,
            probabilities=order.probabilities,
            tags=order.tags,
            dry_run=order.dry_run,
        ),
    )


def predict_options_to_proto(choice: PredictChoice) -> prediction_pb2.PredictOptions:
    return prediction_pb2.PredictOptions(
        probabilities=choice.probabilities,
        **{"as": choice.as_name},  # type: ignore[arg-type]  # `as` is a keyword of Python
        on_missing=choice.on_missing,
        overrides=choice.overrides,
    )


def score_open_to_proto(order: ScoreOrder, caller: common_pb2.Caller) -> prediction_pb2.ScoreOpen:
    return prediction_pb2.ScoreOpen(
        caller=caller,
        columns=order.columns,
        methods=order.methods,
        actual=order.actual,
        predicted=order.predicted,
        by=order.by,
        params=order.params,
    )
