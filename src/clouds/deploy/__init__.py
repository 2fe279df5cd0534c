"""What a model is taken out for: one file for another runtime, a server, the hub, better labels."""
