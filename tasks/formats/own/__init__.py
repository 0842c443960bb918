"""Log dialects of the team's own: each file here with recognises() and parse() is found by lying here (docs/extend.md)."""
