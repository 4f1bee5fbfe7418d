"""The lengths of a year and a month, as every module that counts time takes them."""

MONTHS_PER_YEAR = 12.0
DAYS_PER_MONTH = 30.4375
"""A twelfth of 365.25 days."""
