"""The kit: the base of every Feedmesh process, and of the `feedmesh` command. It imports no service."""
