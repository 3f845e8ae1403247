"""One stand-in for Barbara's platform, which its own SDK drives over HTTP."""
