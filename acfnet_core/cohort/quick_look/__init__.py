"""A look at any folder, without a contract and without a set-up."""
