"""The search command keplertrain; its logic is in kepler_app/commands/train.py."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))

from kepler_app.chunks import main
from kepler_app.commands.train import KeplerTrain

if __name__ == "__main__":
    main(KeplerTrain())
