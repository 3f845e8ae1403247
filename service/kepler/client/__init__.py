"""The one gRPC client: SDK, command line and tools speak to the service through it.

>>> from kepler.client import Access
>>> Access.resolve(address="127.0.0.1:8790").address
'127.0.0.1:8790'
"""

from kepler.client.address import Access, Address
from kepler.client.client import KeplerClient

__all__ = ["Access", "Address", "KeplerClient"]
