"""The version: the one place where it stands, below everything that reads it."""

__version__ = "0.2.0"
