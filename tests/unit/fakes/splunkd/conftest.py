from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.splunkd import Splunkd

APP = Path(__file__).parents[3] / "data" / "standin_app"


@pytest.fixture
def make_splunkd() -> Iterator[Callable[..., Splunkd]]:
    """A stand-in that opens no socket, with the tiny app installed."""
    made: list[Splunkd] = []

    def make(**settings: Any) -> Splunkd:
        splunkd = Splunkd(apps=[APP], listen=False, **settings)
        made.append(splunkd)
        return splunkd

    yield make
    for splunkd in made:
        splunkd.stop()


@pytest.fixture
def splunkd(make_splunkd: Callable[..., Splunkd]) -> Splunkd:
    return make_splunkd(lookups={"abc.csv": "a,b,c\n" + "".join(f"{i},x y,{i}.5\n" for i in range(5))})
