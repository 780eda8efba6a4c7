"""The shelf of texts to vectors: each file is one embedder.

Nobody imports it; `qdcgen.parts.find` looks on it by name.
"""
