"""The shelf of where batches run: each file is one executor.

Nobody imports it; `qdcgen.parts.find` looks on it by name.
"""
