"""Measures the README's claims: one table, a JSON file for each part, the machine named."""
