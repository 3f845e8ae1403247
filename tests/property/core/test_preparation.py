"""What holds of every preparation."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kepler.core.algorithms import Task
from kepler.core.checked_json import parse_object
from kepler.core.datasets import TrainingTable, number_column, text_column
from kepler.core.errors import InvalidInput
from kepler.core.preparation import (
    CodesFeature,
    NumberFeature,
    OneHotFeature,
    Preparation,
    TargetFeature,
)
from kepler.core.preparing import PrepareOptions, learn, select, training_matrix
from kepler.core.profile import FieldProfile, profile_of
from kepler.core.records import NumberColumn, RecordBatch, TextColumn
from kepler.core.target_encoding import TargetMeans
from kepler.core.targets import read_target

WORDS = st.sampled_from(["", "a", "b", "a=b", "é", "1", "nan", " ", '"', "x\ny"])
NUMBERS = st.one_of(st.none(), st.floats(width=32), st.just(float("inf")))
SENT = st.one_of(
    st.none(), st.floats(allow_nan=False, allow_infinity=False)
)  # files read infinity as missing
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def tables(draw, min_rows=1):
    n_rows = draw(st.integers(min_rows, 6))
    columns = {}
    for index in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from([SENT, WORDS]))
        values = draw(st.lists(kind, min_size=n_rows, max_size=n_rows))
        columns[f"f{index}"] = number_column(values) if kind is SENT else text_column(values)
    return TrainingTable(columns, n_rows)


@st.composite
def features(draw, index):
    name, categories = (
        f"f{index}",
        tuple(draw(st.lists(WORDS.filter(bool), unique=True, min_size=1, max_size=4))),
    )
    fill = draw(st.none() | st.sampled_from(categories))
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return NumberFeature(name, draw(st.none() | FINITE))
    if kind == 1:
        return OneHotFeature(name, categories, fill)
    if kind == 2:
        return CodesFeature(name, categories, fill)
    labels = draw(st.sampled_from([(), ("u", "v", "w")]))
    width = len(labels) or 1
    rows = st.lists(FINITE, min_size=width, max_size=width).map(tuple)
    means = tuple(draw(rows) for _ in categories)
    return TargetFeature(name, categories, fill, means, draw(rows), labels)


@st.composite
def preparations(draw):
    nulls = draw(st.sampled_from(["drop", "impute", "native"]))
    return Preparation(nulls, tuple(draw(features(index)) for index in range(draw(st.integers(0, 4)))))


def batch_for(draw, preparation, n_rows):
    columns = {}
    for feature in preparation.features:
        if draw(st.booleans()) and draw(st.booleans()):
            continue  # absent
        kind = NUMBERS if isinstance(feature, NumberFeature) else WORDS
        values = draw(st.lists(kind, min_size=n_rows, max_size=n_rows))
        columns[feature.field] = number_column(values) if kind is NUMBERS else text_column(values)
    return RecordBatch(columns, n_rows)


def row(batch, at):
    columns = {}
    for name, column in batch.columns.items():
        if isinstance(column, NumberColumn):
            columns[name] = NumberColumn(column.values[at : at + 1])
        else:
            columns[name] = TextColumn(column.codes[at : at + 1], column.categories)
    return RecordBatch(columns, 1)


@settings(max_examples=50, deadline=None)
@given(preparations())
def test_json_round_trip(preparation):
    text = json.dumps(preparation.to_json(), allow_nan=False)
    assert Preparation.from_json(parse_object(text, "Preparation")) == preparation


@settings(max_examples=40, deadline=None)
@given(
    st.data(), preparations(), st.sampled_from(["warn", "null"]), st.sampled_from([np.float32, np.float64])
)
def test_a_batch_is_its_rows_one_by_one(data, preparation, on_missing, dtype):
    batch = batch_for(data.draw, preparation, data.draw(st.integers(0, 6)))
    whole = preparation.transform(batch, dtype=dtype, on_missing=on_missing)
    kept = np.ones(batch.n_rows, bool) if whole.kept is None else whole.kept
    assert len(whole.x) == np.count_nonzero(kept)
    if preparation.nulls == "drop" and on_missing == "null":
        codes = [not isinstance(f, CodesFeature) for f in preparation.features]
        assert np.isfinite(whole.x).all() or not all(codes)
    ones = [
        preparation.transform(row(batch, at), dtype=dtype, on_missing=on_missing)
        for at in range(batch.n_rows)
    ]
    assert [one.kept is None or bool(one.kept[0]) for one in ones] == kept.tolist()
    parts = [one.x for one in ones]
    np.testing.assert_array_equal(np.concatenate(parts) if parts else whole.x, whole.x)


@settings(max_examples=40, deadline=None)
@given(
    tables(),
    st.sampled_from(["drop", "impute", "native"]),
    st.sampled_from(["onehot", "native", "target"]),
    st.integers(0, 2**32 - 1),
)
def test_whatever_comes_is_prepared_or_refused_in_a_sentence(table, nulls, categoricals, seed):
    names = tuple(table.columns)
    options = PrepareOptions("X", nulls, categoricals, True, True)
    y = np.random.default_rng(seed).normal(size=table.n_rows)
    try:
        selection = select(table, names, "", nulls)
        used = y if selection.kept is None else y[selection.kept]
        means = TargetMeans.of(used, ()) if categoricals == "target" else None
        preparation, _ = learn(table, selection.fields, selection.kept, options, means)
    except InvalidInput:
        return
    x = training_matrix(preparation, table, selection.kept, selection.n_kept)
    assert x.shape == (selection.n_kept, len(preparation.feature_names))
    if nulls != "native" and categoricals != "native":
        assert not np.isnan(x).any()
    again = preparation.transform(RecordBatch(dict(table.columns), table.n_rows))
    sent = np.ones(table.n_rows, bool) if selection.kept is None else selection.kept
    answered = np.ones(table.n_rows, bool) if again.kept is None else again.kept
    assert not (sent & ~answered).any()  # what was learned from is answered, bar dropped fields' gaps
    np.testing.assert_array_equal(again.x[sent[answered]], x)
    for profile in profile_of(table, names).values():
        document = json.loads(json.dumps(profile.to_json(), allow_nan=False))
        assert FieldProfile.from_json(parse_object(json.dumps(document), "profile")) == profile


@given(st.lists(st.text(max_size=5).filter(bool), min_size=1, max_size=20))
def test_classes_come_back_as_some_text_of_the_data(values):
    table = TrainingTable({"y": text_column(values)}, len(values))
    try:
        target = read_target(table, "y", Task.CLASSIFICATION, None)
    except InvalidInput:
        return
    assert set(target.classes) <= set(values)
    for value, code in zip(values, target.y, strict=True):
        label = target.classes[code]
        assert label == value or float(label) == float(value)
