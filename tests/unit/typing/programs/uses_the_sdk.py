"""A program as users write it: it must type-check in strict mode. It is never run."""

from __future__ import annotations

from pathlib import Path

import kepler as kp
from kepler.core.errors import KeplerError, NotFound
from kepler.sdk import Predictions, Session, TrainedModel


def whole_path(file: Path) -> list[dict[str, str]]:
    rows = kp.data.from_csv(file)
    names: tuple[str, ...] = rows.columns
    model: TrainedModel = kp.train(
        rows,
        algorithm="LogisticRegression",
        target=names[-1],
        features=["a", "b_*"],
        into="app:m",
        C=0.5,
        fit_intercept=True,
    )
    accuracy: float = model.metrics["accuracy"]
    version: int = model.version
    print(accuracy, version, [notice.text for notice in model.notices])
    scored: Predictions = kp.predict("app:m@prod", {"a": [1.5, None], "b_x": ["u", "v"]}, probabilities=True)
    path: Path = scored.to_csv("out.csv")
    print(path, scored.columns, len(scored), scored.to_pandas().shape)
    return model.predict(file).to_dicts()


def shortcuts() -> None:
    first: TrainedModel = kp.train.lightgbm("rows.csv", target="y", n_estimators=200, learning_rate=0.05)
    kp.train.random_forest([{"a": 1, "y": 0}], target="y", task="classification", wait=False)
    kp.train.mlp(kp.data.from_frame({"a": [1]}), target="a", hidden_layer_sizes=(100, 50))
    kp.train.kmeans(kp.data.from_splunk("index=main", earliest="-7d", latest="now"), k=3)
    kp.train.SomePluginsAlgorithm("rows.csv")
    print(
        first.wait(progress=False).summary("importance").to_dicts(),
        [item.name for item in kp.train.algorithms()],
    )


def sessions() -> str:
    with kp.connect("box:8790", token="t", ca_file="ca.pem") as session:
        opened: Session = session
        try:
            opened.set_alias("app:m@1", "prod")
        except NotFound as error:
            return error.fix
        except KeplerError as error:
            return error.sentence
        table = opened.score("rows.csv", method="accuracy_score", actual="y", predicted="p")
        return table.rows[0][0] + str(opened.models()[0].metrics) + str(kp.jobs(limit=3)[0].state)
