"""Ask a model: `ask` is the door; behind it the transports (`embedded`, `openai`), the journal and reply checking."""
