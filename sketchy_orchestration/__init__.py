"""Phase timers, event fan-out and self-delivery for SketchyAF games."""

__version__ = "0.1.0"
