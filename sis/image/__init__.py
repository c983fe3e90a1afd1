"""A tree ⇄ an image version: committed, verified and pruned; its documents, stores and deltas each in a room."""
