"""OSCAR packages and where they come from."""
