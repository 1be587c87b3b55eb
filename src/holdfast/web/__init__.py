"""The web door: HTTP in, JSON, events or pages out. No SQL and no business rules live here."""
