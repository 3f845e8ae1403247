"""Mistakes that a type checker must find: each line marked ``wrong`` is one. It is never run."""

from __future__ import annotations

import kepler as kp

kp.train("rows.csv")  # wrong: no algorithm
kp.train("rows.csv", algorithm=5)  # wrong: a name is text
kp.train.lightgbm("rows.csv", target="y", n_estimators=object())  # wrong: no hyperparameter
kp.predict("rows.csv")  # wrong: no data
kp.predict("m", "rows.csv", probability=True)  # wrong: probabilities
number: int = kp.train.xgboost("rows.csv", target="y")  # wrong: a TrainedModel
kp.connect(port=1)  # wrong: address
kp.score("rows.csv", actual="y", predicted="p")  # wrong: no method
kp.trian("rows.csv", algorithm="x")  # wrong: a slip
