"""The storage toolkit for the data volume of a Docker/OCI registry."""
