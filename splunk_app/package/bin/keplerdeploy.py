"""The search command keplerdeploy; its logic is in kepler_app/commands/deploy.py."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))

from kepler_app.chunks import main
from kepler_app.commands.deploy import KeplerDeploy

if __name__ == "__main__":
    main(KeplerDeploy())
