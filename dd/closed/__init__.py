"""Closed forms: decompositions of design matrices, and exact gradient descent from them."""
