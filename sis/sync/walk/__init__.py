"""What is there, and what was there when this root was last looked at: one walk, an index, a closer look."""
