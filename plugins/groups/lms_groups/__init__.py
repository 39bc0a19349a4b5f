"""Groups of people, across sections and courses."""
