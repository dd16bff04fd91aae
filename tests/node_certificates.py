"""The certificates of nodes, as the demonstration of two nodes makes them."""

from deploy.two_nodes.authority import Authority

__all__ = ["Authority"]
