"""Make this tree equal to that manifest: index → plan → fetch → apply → report."""
