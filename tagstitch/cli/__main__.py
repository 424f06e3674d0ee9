"""`python -m tagstitch.cli`: the same as `tagstitch`."""

from tagstitch.cli import main

if __name__ == "__main__":
    main()
