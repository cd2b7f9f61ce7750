"""Characters of people's own: learnt from a few pictures, shown to be themselves, and kept in one file."""
