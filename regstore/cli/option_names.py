"""Every option that the configuration can give a default; a test compares them with the commands.

Here so that a file can be checked without importing every command.
"""

OPTION_NAMES = frozenset({
    "accept_proposals", "all", "at", "bandwidth", "cipher", "combined", "count", "cut_over", "data",
    "delete_orphan_signatures", "delete_untagged", "details", "digest", "dry_run", "empty_repositories",
    "fail_on", "format", "from", "full", "grace", "header", "header_backup", "history", "idle", "jobs", "json",
    "keep", "keep_daily", "keep_hourly", "keep_last", "keep_monthly", "keep_signature_history", "keep_tag",
    "keep_weekly", "keep_within", "keep_yearly", "key_export", "layers", "level", "listen", "lock_wait",
    "max_delete", "merge", "metrics_top", "min_argon2_memory", "min_argon2_time", "min_keyslots",
    "min_pbkdf2_iterations", "mirror", "mode", "mount_point", "multipart_threshold", "nagios", "no_quarantine",
    "offline", "older_than", "out", "owner", "passphrase_command", "passphrase_fd", "plain", "policy", "prune",
    "quarantine_retention", "quick", "quiet", "readback", "registry_program", "registry_url", "repair",
    "repository", "require_registry", "rescue_memory", "sample", "scratch", "since", "snapshot", "sort", "subset",
    "sysroot", "tag", "tags", "test_key_file", "textfile", "time_budget", "top", "trust_stored_checksums",
    "untagged_older_than", "upload_age", "uuid", "what_if", "write_probe", "yes",
})  # fmt: skip
