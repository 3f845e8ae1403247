"""What the search commands of Kepler for Splunk share. CPython 3.9 and 3.13, standard library first.

Splunk starts a command several times per search only to plan it, so nothing heavy (asyncio, ssl, the gRPC
client, logging) is imported before the first rows come: see `kepler_app.chunks`.
"""

VERSION = "0.1.0"
