"""Figures of curves and of maps over CT: arrays in, SVG or PNG out."""
