"""Generated from proto/kepler/v1 by `make proto`. Do not edit."""
