"""qdcgen: synthetic text data with separate controls for quality, diversity, complexity and coverage."""

__version__ = "0.1.0"
