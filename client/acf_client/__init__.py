"""The program at a hospital."""
