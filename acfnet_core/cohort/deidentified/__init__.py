"""A de-identified copy of a site's scans and table, rebuilt from what is allowed."""
