"""Property tests of this folder: the same examples every time, and no time limit on a busy machine."""

from hypothesis import settings

settings.register_profile("data", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("data")
