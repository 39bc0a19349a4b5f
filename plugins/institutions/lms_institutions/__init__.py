"""The tree of districts, schools and departments."""
