"""A PostgreSQL server and a way to call it; knows no Holdfast table."""
