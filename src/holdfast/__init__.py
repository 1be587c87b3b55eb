"""Holdfast keeps paid, multi-step work right in a race and after a crash."""

__version__ = "0.1.0"
