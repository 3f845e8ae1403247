from __future__ import annotations

import subprocess
import sys
import types
from importlib.metadata import EntryPoint
from typing import Any

import pytest

import kepler.registry as registry_module
from kepler.core.algorithms import AlgorithmInfo, Task, algorithm, declared_by, param
from kepler.core.errors import Conflict, InvalidInput
from kepler.registry import BrokenPlugin, Registry, default_registry, discover, load_registry


def _info(
    name: str, task: Task = Task.REGRESSION, aliases: tuple[str, ...] = (), origin: str = "here"
) -> AlgorithmInfo:
    return AlgorithmInfo(name, task, object, {}, aliases=aliases, origin=origin)


@pytest.fixture(scope="module")
def ours() -> Registry:
    return default_registry()


def test_it_lists_every_family(ours: Registry) -> None:
    names = {info.name for info in ours.all()}
    boosters = {
        f"{kind}{task}"
        for kind in ("XGBoost", "LightGBM", "CatBoost")
        for task in ("Classifier", "Regressor")
    }
    assert boosters | {"LinearRegression", "SVM", "KMeans", "DBSCAN", "PCA", "LocalOutlierFactor"} <= names
    assert len(names) == 40
    assert ours.broken == ()


def test_listing_imports_no_machine_learning_library() -> None:
    heavy = "sklearn", "lightgbm", "xgboost", "catboost", "onnx", "onnxruntime", "skops"
    code = (
        "import sys; from kepler.registry import default_registry as r; r().find('XGBClassifier')\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("xgbclassifier", "XGBoostClassifier"),
        ("LGBMRegressor", "LightGBMRegressor"),
        (" kmeans ", "KMeans"),
        ("svc", "SVM"),
    ],
)
def test_names_and_aliases_are_taken_in_any_case(ours: Registry, written: str, name: str) -> None:
    assert ours.find(written).name == name


def test_a_short_name_means_what_fits_the_target(ours: Registry) -> None:
    assert ours.find("rf", Task.CLASSIFICATION).name == "RandomForestClassifier"
    assert ours.find("rf", Task.REGRESSION).name == "RandomForestRegressor"
    with pytest.raises(InvalidInput, match="'rf' may mean RandomForestClassifier or RandomForestRegressor"):
        ours.find("rf")
    with pytest.raises(InvalidInput, match="may mean"):
        ours.find("rf", Task.CLUSTERING)


def test_an_unknown_name_gets_the_three_nearest(ours: Registry) -> None:
    with pytest.raises(InvalidInput) as caught:
        ours.find("RandomForrestClasifier")
    assert "Unknown algorithm 'RandomForrestClasifier'" in caught.value.message
    near = caught.value.fix.partition(";")[0]
    assert near.startswith("The nearest are RandomForestClassifier")
    assert near.count(",") == 2


def test_an_empty_registry_says_so() -> None:
    with pytest.raises(InvalidInput, match="No algorithm is registered"):
        Registry([]).find("x")


def test_two_of_one_name_is_an_error_naming_both() -> None:
    with pytest.raises(Conflict, match=r"'a': mine\.object and theirs\.object"):
        Registry([_info("A", origin="mine"), _info("a", origin="theirs")])


@pytest.mark.parametrize(
    "second",
    [_info("B", aliases=("A",)), _info("B", aliases=("short",)), _info("short", Task.CLUSTERING)],
    ids=["alias is a name", "alias of the same task", "name is an alias"],
)
def test_aliases_may_not_hide_names(second: AlgorithmInfo) -> None:
    with pytest.raises(Conflict):
        Registry([_info("A", aliases=("short",)), second])


def test_create_sets_defaults_and_values(ours: Registry) -> None:
    made: Any = ours.create(ours.find("Ridge"), {"alpha": 3.0})
    assert (made.alpha, made.fit_intercept) == (3.0, True)
    with pytest.raises(InvalidInput, match="Ridge has no parameter 'beta'"):
        ours.create(ours.find("Ridge"), {"beta": 1})


def test_an_algorithm_is_available_when_its_library_is(
    ours: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(ours.available(info) for info in ours.all())
    monkeypatch.setattr(registry_module, "find_spec", lambda name: None)
    assert not ours.available(ours.find("CatBoostClassifier"))
    assert ours.available(ours.find("Ridge"))


def test_check_params_is_reachable_through_the_registry(ours: Registry) -> None:
    assert ours.check_params(ours.find("KMeans"), {"k": "3"}) == {"k": 3}


@algorithm("Mine", task=Task.REGRESSION)
class _Mine:
    """A plugin."""

    width: int = param(1, low=1)


def _points(monkeypatch: pytest.MonkeyPatch, **loads: Any) -> None:
    class Point:
        def __init__(self, name: str, result: Any) -> None:
            self.name, self.value, self._result = name, f"package:{name}", result

        def load(self) -> Any:
            if isinstance(self._result, Exception):
                raise self._result
            return self._result

    found = [Point(name, result) for name, result in loads.items()]
    monkeypatch.setattr(registry_module, "entry_points", lambda group: found)


def test_third_parties_are_found_and_the_broken_ones_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("mine")
    module_class = type("_Inner", (), {"__module__": "mine"})
    module.Inner = algorithm("Inner", task=Task.REGRESSION)(module_class)  # type: ignore[attr-defined]
    _points(monkeypatch, good=_Mine, module=module, bad=ImportError("no libfoo"), empty=object)
    registry = load_registry()
    assert registry.find("mine").factory is _Mine
    assert registry.find("inner").factory is module_class
    assert [item.name for item in registry.broken] == ["bad", "empty"]
    assert registry.broken[0] == BrokenPlugin("bad", "package:bad", "ImportError: no libfoo")
    assert "declares no plugin" in registry.broken[1].reason
    assert registry.find("LinearRegression").name == "LinearRegression"
    with pytest.raises(InvalidInput, match="Its plugin failed to load: ImportError: no libfoo"):
        registry.find("bad")


def test_a_third_party_may_not_take_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = algorithm("KMeans", task=Task.CLUSTERING)(type("Taken", (), {"__module__": "theirs"}))
    _points(monkeypatch, taken=taken)
    with pytest.raises(Conflict, match=r"kepler\.algorithms\.cluster\.KMeans and theirs\.Taken"):
        load_registry()


def test_discovery_serves_other_plugins_too() -> None:
    found, broken = discover("kepler.targets", "kepler.no-such-group", declared_by)
    assert (found, broken) == ([], [])


def test_something_that_is_no_class_declares_nothing() -> None:
    point = EntryPoint("x", "math:pi", "kepler.algorithms")
    with pytest.raises(TypeError, match="declares no plugin"):
        registry_module._behind(point, declared_by)
