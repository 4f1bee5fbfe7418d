"""Where the real data for tests lies; it is no part of the project."""

from pathlib import Path

SHARED_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
"""Absent where the project stands alone: what needs it is skipped, and says so."""
