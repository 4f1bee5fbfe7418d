"""An app of plain Flower whose sites train nothing."""
