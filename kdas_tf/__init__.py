"""Find, train, judge and ship person re-identification networks (KDAS-ReID, Lei et al., Algorithms 2021)."""

__version__ = "0.2.0"
