"""What both sides of a federation share: no Flower, no terminal, no sockets."""

__version__ = "0.1.0"
