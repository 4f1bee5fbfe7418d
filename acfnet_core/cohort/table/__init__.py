"""The clinical table: its cells, its columns, its faults."""
