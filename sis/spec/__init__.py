"""YAML the admin writes → frozen models, all faults at once with file and line."""
