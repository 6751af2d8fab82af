"""From any result or exception to a `Signal`: pure, and without importing the client it came from."""
