"""The game of interrogation: how many queries tell which function a black box computes."""
