"""One policy per file: frozen settings, the state born with them, and `bind`."""
