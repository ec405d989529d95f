"""The attention catalogue, one technique a file, a folder for each category."""
