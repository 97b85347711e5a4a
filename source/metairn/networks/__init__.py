"""Plain torch networks: no reinforcement learning, no framework."""
