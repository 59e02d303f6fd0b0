"""The checks, each one function that knows one id of the catalogue."""
