"""What answers say, and when, while a dependency misbehaves: a file for each dependency."""
