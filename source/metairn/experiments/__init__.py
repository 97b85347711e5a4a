"""Commands: the only room that reads Hydra configurations."""
