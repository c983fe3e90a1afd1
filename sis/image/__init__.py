"""A tree ⇄ an image version: scan, chunk, pack, manifest, refs, verify, prune."""
