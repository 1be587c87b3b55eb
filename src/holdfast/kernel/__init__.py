"""The kernel: each idea is what the database enforces (.sql) and typed calls (.py), same stem."""
