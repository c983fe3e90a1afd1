"""Where versions lie: in a directory or behind a URL, in packs, under names that never change and signed refs."""
