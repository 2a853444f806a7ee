"""How a request is handled: from its head to its answer, the same way for every endpoint."""
