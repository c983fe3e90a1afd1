"""The same thing on many nodes."""
