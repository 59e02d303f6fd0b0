"""`python -m regstore`."""

from regstore.cli.main import main

if __name__ == "__main__":
    main()
