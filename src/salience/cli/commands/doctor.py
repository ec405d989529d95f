"""``salience doctor``."""
EXAMPLES = ("salience doctor",)
