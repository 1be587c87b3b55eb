"""`holdfast bench`: the figures of the docs, measured on this machine."""

import typer

app = typer.Typer(no_args_is_help=True, help="Measure speed here, on a database of its own.")
