"""The shelf of judging: each file is one filter. Nobody imports it; `qdcgen.parts.find` looks on it by name."""
