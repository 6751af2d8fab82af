"""One API per file, each nothing but its `Rules`."""
