"""`python -m regstore`, and the steps of a night."""

import sys

try:
    from regstore.cli.main import main
except Exception:  # noqa: BLE001 - half an upgrade: Python's own 1 would say that it is done, with findings
    sys.excepthook(*sys.exc_info())
    sys.exit(4)

if __name__ == "__main__":
    main()
