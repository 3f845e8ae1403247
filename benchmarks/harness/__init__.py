"""What every benchmark shares: a driver that speaks like splunkd, a service to talk to, and the data."""
