"""The inventory in the forms of others: read from and written to, a module a form, each registered here by name."""
