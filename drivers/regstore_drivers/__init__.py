"""Storage drivers of regstore: one small contract over file systems, S3 and memory."""
