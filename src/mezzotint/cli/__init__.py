"""The command line: thin, and nothing imports it."""

from mezzotint.cli.main import run

__all__ = ["run"]
