"""Finding what is broken on a registry volume, and repairing what can be repaired."""
