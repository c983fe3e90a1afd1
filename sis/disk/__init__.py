"""Layout × disk → plan → partitions, file systems, mounts, boot loader."""
