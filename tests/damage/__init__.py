"""Damage to every file of the data folder, and what must follow: refusal, rebuild, or the right answer; never a wrong one.

python -m tests.damage                  the table: stores by damage, what happened in each cell
python -m tests.damage --positions 200  more bits of each file
"""
