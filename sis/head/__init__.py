"""The head's service: boot answers, node API, the store as static files."""
