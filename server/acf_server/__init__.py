"""The program of the coordinator."""
