"""The version, read by the build and by `stockpot --version`."""

__version__ = "0.1.0"
