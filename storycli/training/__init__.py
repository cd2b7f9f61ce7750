"""Training of the networks, one module each, by the loop of ``fit``."""
