"""The one exception of the embedded PostgreSQL."""


class EmbeddedError(Exception):
    """One clear sentence for a person: what is wrong, and what would be right."""
