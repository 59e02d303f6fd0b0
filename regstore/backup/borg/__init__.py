"""borg repositories as stores: for encryption on this side and for targets behind ssh.

The borg program is run, never imported: it promises no Python interface. Sources of the rules:
docs/internals/frontends.rst and docs/man/borg-create.1 of borgbackup 1.2 and 1.4.
"""
