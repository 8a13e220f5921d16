"""A real llama.cpp server with a small real model, for trying qtop on a machine that serves nothing yet."""
