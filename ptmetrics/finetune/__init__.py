"""The application: pre-trained against from scratch, on the user's data, from one TOML file."""
