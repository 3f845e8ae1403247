"""The REST endpoint /services/kepler/token; its logic is in kepler_app/broker.py."""

import json
import os
import sys

_BIN = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, _BIN)
sys.path.insert(0, os.path.join(os.path.dirname(_BIN), "lib"))

from splunk.persistconn.application import PersistentServerConnectionApplication  # noqa: E402

from kepler_app import broker  # noqa: E402


class TokenBroker(PersistentServerConnectionApplication):
    """splunkd keeps one of these alive and calls `handle` for each request."""

    def __init__(self, command_line=None, command_arg=None):
        super().__init__()

    def handle(self, in_string):
        text = in_string.decode("utf-8") if isinstance(in_string, bytes) else in_string
        return broker.handle(json.loads(text))
