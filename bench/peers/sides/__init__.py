"""The code that runs in the peers' environments: it imports the peer, numpy and `bench.peers.side`, and nothing of Feedmesh."""
