"""``python -m dd.theory``: see :mod:`dd.cli.theory`."""

from dd.cli.theory import program

if __name__ == "__main__":
    program()
