"""Hook of the configuration page: tests the connection before anything is saved."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from solnlib.splunkenv import get_splunkd_uri
from splunktaucclib.rest_handler.base_hook_mixin import BaseHookMixin
from splunktaucclib.rest_handler.error import RestError

from kepler_app import broker
from kepler_app.errors import SearchError


class CustomHookMixin(BaseHookMixin):
    """Found by its name; the REST handlers of the page derive from it."""

    def edit_hook(self, session_key, config_name, stanza_id, payload):
        if stanza_id != "service":
            return
        wanted = str(payload.get("test_connection", "1")).strip().lower()
        try:
            broker.refuse_keys(payload)
            if wanted in ("", "0", "false"):
                return
            broker.check_settings(get_splunkd_uri(), session_key, payload)
        except SearchError as error:
            raise RestError(400, error.sentence) from error
