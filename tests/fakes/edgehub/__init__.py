"""One stand-in for the gRPC service of a Splunk Edge Hub."""
