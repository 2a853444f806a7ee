"""Bearer tokens: keys, verification, and what is said of a token."""
