"""`python -m solvar`: the same as the command `solvar`."""

from solvar.cli.main import main

if __name__ == "__main__":
    main()
