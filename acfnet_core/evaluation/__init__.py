"""Judging predictions: discrimination, calibration, Brier scores, baselines."""
