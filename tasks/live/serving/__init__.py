"""The champion behind an OpenAI-compatible endpoint, with its logs, a challenger beside it, and a way back (docs/serving.md)."""
