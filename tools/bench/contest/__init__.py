"""graphc beside the frameworks that a user would pick instead, timed in the same seconds."""
