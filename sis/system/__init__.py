"""The only door to the operating system: programs, files, mounts, locks, HTTP."""
