"""An image spec → a tree: apt, kernel, node bundle, cleaning, lint."""
