"""Nodes, groups, assignments, facts, events and reports, in SQL."""
