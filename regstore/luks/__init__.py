"""Health of LUKS volumes: would the disk under a registry open again tomorrow, and is the registry really on it?"""
