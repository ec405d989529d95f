import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

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
    if sys.platform != "linux":  # elsewhere a process that has loaded system libraries is not safe to fork
        yield SimpleNamespace(python=sys.executable, folder=Path(sys.executable).parent)
        return
    from warm_python import WarmPython

    server = WarmPython()
    yield server
    server.close()
