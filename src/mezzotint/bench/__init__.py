"""Measurements beside other libraries: whichever of them are installed."""

from mezzotint.bench.peers import PEERS, Peer, find_peer, load_peer

__all__ = ["PEERS", "Peer", "find_peer", "load_peer"]
