"""A ``python`` and a ``salience`` command that start in a few milliseconds, with torch and pandas imported.

A fresh process spends about three seconds of CPU time on imports, and the tests start many. Here one server imports once
and forks. A child is a process of its own: it has the caller's folder, environment, arguments and streams, it runs what
the command line says from the start, and its exit status is the caller's. Who kills the command kills the child.
What Python itself reads at its start (``PYTHONPATH``, ``PYTHONWARNINGS``, ``OMP_NUM_THREADS``) is the server's.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

NUMBER = struct.Struct("<q")
# PyTorch imports _dynamo, which takes longer than the rest of it, when the first optimiser is made
LIBRARIES = (
    "pandas",
    "pyarrow.parquet",
    "sklearn.linear_model",
    "torch._dynamo",
    "safetensors.torch",
    "accelerate",
)
PACKAGES = ("salience", "salience.cli.commands")


class WarmPython:
    """Start the server, and write the two commands into a folder.

    Attributes:
        folder: where ``python`` and ``salience`` are; put it first in ``PATH``.
        python: path of the command that stands for ``sys.executable``.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="salience-"))
        self.python = str(self.folder / "python")
        place = str(self.folder / "socket")
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(place)
            listener.listen(64)
            command, inherited = [sys.executable, __file__, "serve"], listener.fileno()
            self.process = subprocess.Popen(
                [*command, str(inherited)], stdin=subprocess.PIPE, env=environment, pass_fds=[inherited]
            )
        self._write("python", place)
        self._write("salience", place, str(Path(sys.executable).with_name("salience")))

    def _write(self, name: str, *arguments: str) -> None:
        command = shlex.join([sys.executable, "-IS", __file__, "call", *arguments])
        path = self.folder / name
        path.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        path.chmod(0o755)

    def close(self) -> None:
        """End the server."""
        self.process.stdin.close()
        self.process.wait(timeout=30)
        shutil.rmtree(self.folder)


# the command: hand over everything, wait, end the way the child ended


def call(place: str, arguments: list[str]) -> None:
    """Have the server run ``python *arguments``, and exit as that does."""
    request = json.dumps([arguments, os.getcwd(), dict(os.environ)]).encode(errors="surrogateescape")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        socket.send_fds(connection, [NUMBER.pack(len(request))], [0, 1, 2])
        connection.sendall(request)
        code = NUMBER.unpack(_read(connection, NUMBER.size))[0]
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise SystemExit("warm_python: the server has ended")
        data += part
    return data


# the server


def serve(listener: socket.socket) -> None:
    """Import, then fork one child a call until standard input is closed; return in a child."""
    with listener:
        _import_all()
        gc.freeze()  # a collection in a child would write to, and so copy, every shared page
        while True:
            ready, _, _ = select.select([listener, 0], [], [])
            _reap()
            if 0 in ready:
                os._exit(0)
            connection, _ = listener.accept()
            if os.fork() == 0:
                break
            connection.close()
    _keep(connection)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _import_all() -> None:
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.iter_modules(package.__path__, f"{name}."):
            with contextlib.suppress(ImportError):  # needs an extra that is not installed
                importlib.import_module(module.name)


def _keep(connection: socket.socket) -> None:
    """Fork the child and return in it; in this process, wait for its end, or for the caller's."""
    data, streams, _, _ = socket.recv_fds(connection, NUMBER.size, 3)
    arguments, folder, environment = json.loads(_read(connection, NUMBER.unpack(data)[0]))
    ended, alive = os.pipe()  # the child alone holds `alive`, and never uses it
    child = os.fork()
    if child == 0:
        connection.close()
        os.close(ended)
        return _become(arguments, folder, environment, streams)
    for stream in (alive, *streams):
        os.close(stream)
    if connection in select.select([connection, ended], [], [])[0]:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(NUMBER.pack(code))
    os._exit(0)


def _become(arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    atexit.register(gc.unfreeze)  # else libraries find at the end that their objects live on, and say so
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments


def run() -> None:
    """Do what ``python *sys.argv`` does: run ``-c code``, ``-m module`` or a file."""
    kind, *rest = sys.argv
    if kind == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv, sys.path[0] = rest, os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(kind).resolve().parent)
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "call":
        call(sys.argv[2], sys.argv[3:])
    serve(socket.socket(fileno=int(sys.argv[2])))
    run()
