"""How good embeddings are: emulation losses and predicted properties beside their controls."""
