"""The search command kepleredge; its logic is in kepler_app/commands/edge.py."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))

from kepler_app.chunks import main
from kepler_app.commands.edge import KeplerEdge

if __name__ == "__main__":
    main(KeplerEdge())
