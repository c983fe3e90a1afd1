"""New files made ready beside the tree: copied, decoded, fetched, verified."""
