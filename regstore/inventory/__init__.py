"""One pass over a volume: what every repository reaches."""
