"""The documents of a version: manifest, chunk table, record and ref as bytes, in the one form they have."""
