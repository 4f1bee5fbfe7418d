"""Federated arithmetic on named arrays, and the messages: no transport, no patients."""
