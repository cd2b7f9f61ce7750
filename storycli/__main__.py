"""``python -m storycli``."""

from storycli.cli import app

app(prog_name="storycli")
