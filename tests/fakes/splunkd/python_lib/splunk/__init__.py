"""The least of Splunk's own Python package that a REST handler imports (seen in public handlers)."""


class RESTException(Exception):
    """An answer with a status other than 200."""

    def __init__(self, statusCode, msg=None, messages=None):
        super().__init__(msg)
        self.statusCode = statusCode
        self.msg = msg
        self.messages = messages or []
