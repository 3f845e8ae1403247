"""The one gRPC client: SDK, command line and tools speak to the service through it."""
