"""The agent's rows are the service's rows, bit for bit."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kepler.core.preparation import CodesFeature, NumberFeature, OneHotFeature, TargetFeature
from kepler.core.preparation import Preparation as ServicePreparation
from kepler.core.records import NumberColumn, RecordBatch, TextColumn
from kepler_edge.checked import Section
from kepler_edge.preparation import Preparation, RowWriter, number_of, text_of

ABSENT = object()
TEXTS = st.sampled_from(["x", "y", "zz", "1", "1.5", "true", "é"])
NUMBERS = st.one_of(
    st.floats(width=64),
    st.sampled_from([0.0, -0.0, 3.4028234663852886e38, 3.40282356e38, 3.5e38, -1e300, 1.7e308, float("nan")]),
    st.integers(-(10**18), 10**18),
)


@st.composite
def preparations(draw):
    features = []
    for index in range(draw(st.integers(1, 5))):
        name, kind = f"f{index}", draw(st.sampled_from(["number", "number", "onehot", "codes", "target"]))
        if kind == "number":
            finite = st.floats(allow_nan=False, allow_infinity=False)
            features.append(NumberFeature(name, draw(st.none() | finite)))
            continue
        categories = tuple(sorted(draw(st.sets(TEXTS, min_size=1, max_size=4))))
        fill = draw(st.none() | TEXTS)
        if kind == "onehot":
            features.append(OneHotFeature(name, categories, fill))
        elif kind == "codes":
            features.append(CodesFeature(name, categories, fill))
        else:
            width = draw(st.integers(1, 3))
            cells = st.floats(allow_nan=False, allow_infinity=False)
            means = tuple(
                tuple(draw(st.lists(cells, min_size=width, max_size=width))) for _ in range(len(categories))
            )
            default = tuple(draw(st.lists(cells, min_size=width, max_size=width)))
            labels = tuple(f"c{place}" for place in range(width)) if width > 1 else ()
            features.append(TargetFeature(name, categories, fill, means, default, labels))
    return ServicePreparation(draw(st.sampled_from(["drop", "impute", "native"])), tuple(features))


def row_for(draw, preparation):
    row = {}
    for feature in preparation.features:
        number = isinstance(feature, NumberFeature)
        values = NUMBERS if number else st.one_of(TEXTS, st.booleans(), st.floats(-9, 9), st.integers(-9, 9))
        value = draw(st.one_of(values, st.none(), st.just(""), st.just(ABSENT)))
        if value is not ABSENT:
            row[feature.field] = value
    return row


def batch_of(preparation, row):
    """The row as the service would read it from a search."""
    columns = {}
    for feature in preparation.features:
        if feature.field not in row:
            continue
        value = row[feature.field]
        if isinstance(feature, NumberFeature):
            columns[feature.field] = NumberColumn(np.array([number_of(value, feature.field)]))
        else:
            text = text_of(value)
            codes = np.array([-1 if text is None else 0], np.int32)
            columns[feature.field] = TextColumn(codes, () if text is None else (text,))
    return RecordBatch(columns, 1)


@given(st.data(), preparations(), st.sampled_from(["float32", "float64"]))
@settings(max_examples=300, deadline=None)
def test_the_row_is_the_services(data, preparation, dtype):
    writer = RowWriter(Preparation.of(Section(preparation.to_json(), "p")), dtype)
    for _ in range(3):  # one after the other: nothing of a row may stay behind
        row = row_for(data.draw, preparation)
        expected = preparation.transform(batch_of(preparation, row), dtype=dtype)
        kept = writer.write(row)
        assert kept == (expected.kept is None or bool(expected.kept[0]))
        if kept:
            np.testing.assert_array_equal(writer.row, expected.x)


@given(st.lists(NUMBERS, min_size=3, max_size=3), st.sampled_from(["float32", "float64"]))
@example([1, 2.5, 3.40282356e38], "float32")
@settings(max_examples=300, deadline=None)
def test_rows_of_numbers_alone_take_the_quick_way_to_the_same(values, dtype):
    preparation = ServicePreparation("impute", tuple(NumberFeature(name, 7.0) for name in "abc"))
    row = dict(zip("abc", values, strict=True))
    writer = RowWriter(Preparation.of(Section(preparation.to_json(), "p")), dtype)
    assert writer.write(row)
    np.testing.assert_array_equal(
        writer.row, preparation.transform(batch_of(preparation, row), dtype=dtype).x
    )
