"""The kit: what every Feedmesh process stands on, and the `feedmesh` command. It imports no service."""
