"""What runs regstore from a directory that holds it and all that it needs: `python3 -I DIRECTORY gc plan ...`."""

from regstore.cli.main import main

if __name__ == "__main__":
    main()
