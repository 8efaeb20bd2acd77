"""The model server: one process, one model bundle."""

VERSION = "0.1.0"
