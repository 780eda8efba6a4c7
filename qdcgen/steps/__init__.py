"""The shelf of generation: each file is one step. Nobody imports it; `qdcgen.parts.find` looks on it by name."""
