"""A stand-in for splunkd: just enough of it to run the app's real commands and answer the real splunk-sdk.

    from fakes.splunkd import Splunkd

    with Splunkd(apps=["build/app/kepler"], lookups={"x.csv": "a,b\\n1,2\\n"}, python="3.9") as splunkd:
        result = splunkd.search("| inputlookup x.csv | keplerpredict app:m")
        service = splunklib.client.connect(**splunkd.sdk_kwargs())

Of SPL it has only what our searches need and refuses the rest (`OutsideTheStandIn`). Every behaviour names its
source; what has none is listed in docs/reference/unverified-on-splunk.md, section "The stand-in".
"""

from __future__ import annotations

from .engine import SearchResult
from .errors import OutsideTheStandIn, SearchFailed, SplSyntaxError
from .hec_faults import Fault, FaultPlan
from .interpreters import InterpreterMissing, find_python, has_python
from .search_context import RunConfig
from .splunkd import Splunkd

__all__ = [
    "Fault",
    "FaultPlan",
    "InterpreterMissing",
    "OutsideTheStandIn",
    "RunConfig",
    "SearchFailed",
    "SearchResult",
    "SplSyntaxError",
    "Splunkd",
    "find_python",
    "has_python",
]
