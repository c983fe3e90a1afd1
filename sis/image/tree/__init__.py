"""A tree on disk, taken in: walked, read once, cut into chunks where its content says."""
