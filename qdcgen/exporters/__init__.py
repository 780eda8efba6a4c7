"""The shelf of trainers' formats: each file is one exporter.

Nobody imports it; `qdcgen.parts.find` looks on it by name.
"""
