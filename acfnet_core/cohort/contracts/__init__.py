"""The data contracts that ship with the product, as TOML files."""
