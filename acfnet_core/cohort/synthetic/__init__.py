"""Made-up hospitals, written as the files that a real one holds."""
