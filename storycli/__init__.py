"""storycli: a written story and a few pictures of its hero, turned into a video."""

__version__ = "0.1.0"
