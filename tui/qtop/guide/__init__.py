"""The guide on planning resources for Qwen3-4B, claim by claim, checked against what this machine shows. Pure."""
