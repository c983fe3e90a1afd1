"""What is to be done, as a frozen value: what differs, where its content is, in which order it is put in place."""
