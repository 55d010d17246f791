"""RMT, a vision backbone with Manhattan self-attention, and its one-parameter width family."""
