"""From a site's files to its prepared store, and what the store holds."""
