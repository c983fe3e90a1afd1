"""The commands: a module a noun; errors become exit codes only here."""
