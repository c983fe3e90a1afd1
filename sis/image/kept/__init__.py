"""What a node keeps of the versions it had: the next one is made of it, and a night without change reads one ref."""
