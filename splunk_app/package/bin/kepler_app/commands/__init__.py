"""One module per search command; each holds a `chunks.Command`."""
