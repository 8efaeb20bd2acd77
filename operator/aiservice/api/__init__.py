"""The AIService API: both sides of every wire. Pydantic only."""
