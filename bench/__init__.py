"""Measures what the README claims: one table, one JSON file, the machine named."""
