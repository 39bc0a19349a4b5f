"""Who takes part in which course, and as what."""
