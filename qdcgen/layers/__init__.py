"""The shelf of local variation: each file is one layer. Nobody imports it; `qdcgen.parts.find` looks on it by name."""
