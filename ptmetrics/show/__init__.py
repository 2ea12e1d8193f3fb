"""What a person sees: console tables. Reads records only."""
