"""The drill of a cluster: three hosts in three zones, faults of machines, network, brokers, disks and clocks under load."""
