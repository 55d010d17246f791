"""``python -m dd.results``: see :mod:`dd.cli.results`."""

from dd.cli.results import program

if __name__ == "__main__":
    program()
