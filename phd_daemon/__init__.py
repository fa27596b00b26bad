"""When, how many, in what order, and who is told."""
