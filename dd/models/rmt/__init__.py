"""RMT, a vision backbone (Fan et al., arXiv 2309.11523): the published variants and a family of widths."""

from dd.models.rmt.family import RMTWidth

__all__ = ["RMTWidth"]
