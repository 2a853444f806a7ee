"""PostgreSQL: its address, sessions, connections, schema, and the server that we bring."""
