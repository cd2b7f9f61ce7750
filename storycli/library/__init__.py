"""The clip library: what is in it, how it is built, and how it is searched."""
