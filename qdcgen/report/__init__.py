"""Measures, ledger and gates as text: terminal, Markdown, JSON; the plan; what a run says while it works."""
