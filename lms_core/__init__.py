"""The core of a headless learning management system: plugins, unit of work, permissions, events, deletion."""

__version__ = "0.1.0"
