"""Which devices a selector chooses."""

from __future__ import annotations

import pytest

from kepler.core.errors import InvalidInput
from kepler.fleet.devices import Device, DeviceState, Selector, check_device_id, check_labels

GATEWAY = Device("gw-01", labels={"site": "plant7", "line": "3"})


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("*", True),
        ("site=plant7", True),
        (" site = plant7 , line=3", True),
        ("site=plant8", False),
        ("site=plant*", True),
        ("site=plant8|plant7", True),
        ("line!=4", True),
        ("line!=3", False),
        ("rack=1", False),
        ("rack!=1", True),
        ("device=gw-0*", True),
        ("device=gw-02", False),
    ],
)
def test_selectors(text: str, chosen: bool) -> None:
    assert Selector.parse(text).matches(GATEWAY) is chosen


def test_a_revoked_device_is_never_chosen() -> None:
    assert not Selector.parse("*").matches(Device("gw", state=DeviceState.REVOKED))


@pytest.mark.parametrize(
    "text", ["", " , ", "site", "=plant7", "site=", "a b=c", "x=" + "y" * 200, ",".join(["a=b"] * 21)]
)
def test_what_is_no_selector(text: str) -> None:
    with pytest.raises(InvalidInput):
        Selector.parse(text)


@pytest.mark.parametrize("name", ["", "host", "Gw", "a/b", "a" * 65, "gw+", "gw#", "gw\n"])
def test_what_is_no_device(name: str) -> None:
    with pytest.raises(InvalidInput):
        check_device_id(name)


@pytest.mark.parametrize("labels", [{"device": "x"}, {"a b": "x"}, {"site": "a,b"}, {"site": "x" * 129}])
def test_what_is_no_label(labels: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        check_labels(labels)
