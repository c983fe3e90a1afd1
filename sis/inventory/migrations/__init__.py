"""How an older inventory becomes a newer one; run by `sis.inventory.db` when a state database is opened."""
