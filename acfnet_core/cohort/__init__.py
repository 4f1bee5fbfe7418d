"""Patients' data at one site: contract, reading, preparing, batching."""
