"""The program of the coordinator."""

from acfnet_core.flower_environment import keep_flower_quiet

# Before anything here imports Flower, which looks at its switches once.
keep_flower_quiet()
