"""The terminal door: every command, its errors in one sentence, its numbers also as JSON."""

from holdfast.cli.main import main

__all__ = ["main"]
