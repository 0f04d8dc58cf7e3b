"""Measures what the README claims: one table, a JSON file for each part, the machine named."""
