"""The version, in one place: the build, `--version` and every written plan read it here."""

__version__ = "0.1.0"
