"""Bridges to other libraries: none is imported before the user asks for it."""
