"""The shelf of measuring: each file is one metric. Nobody imports it; `qdcgen.parts.find` looks on it by name."""
