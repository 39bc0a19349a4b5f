"""People, and the roles they are granted."""
