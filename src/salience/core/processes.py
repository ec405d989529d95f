"""Which process this is, where ``torchrun`` started several."""

import os


def is_main_process() -> bool:
    """Say whether this process writes files: the only one, or the first of several."""
    return int(os.environ.get("RANK", "0")) == 0
