import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # for the helpers beside the tests


@pytest.fixture(scope="session")
def interpreter():
    """Call functions under Triton's interpreter (see triton_interpreter.py)."""
    if find_spec("triton") is None:
        pytest.skip("triton is not installed")
    from triton_interpreter import Interpreter

    worker = Interpreter()
    yield worker
    worker.close()


@pytest.fixture(scope="session")
def warm():
    """Return Python processes that start with everything imported (see warm_python.py)."""
    if sys.platform != "linux":
        pytest.skip("a process that has loaded system libraries is only safe to fork on Linux")
    from warm_python import WarmPython

    server = WarmPython()
    yield server
    server.close()
