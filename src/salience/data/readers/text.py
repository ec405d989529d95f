"""Decode the bytes of a text file, and say where that fails."""

import codecs

from salience.core.errors import DataError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(data: bytes, name: str, encoding: str | None = None) -> str:
    """Return the text of a file: UTF-8, or what its byte order mark or ``encoding`` says.

    Raises:
        DataError: bytes that are not of the encoding (SAL-D008), NUL bytes (SAL-D009), nothing but white space
            (SAL-D002).
    """
    encoding = encoding or marked_encoding(data)
    try:
        text = data.decode(encoding)
    except LookupError:
        raise DataError(
            f"Unknown encoding {encoding!r}", f"{name}.", "For example utf-8 or cp1252.", code="SAL-D008"
        ) from None
    except UnicodeDecodeError as error:
        raise _undecodable(data, name, encoding, error.start) from None
    except ValueError as error:
        raise DataError(
            f"Encoding {encoding!r} does not decode text", f"{name}: {error}.", "Use utf-8.", code="SAL-D008"
        ) from None
    if not isinstance(text, str):
        raise DataError(
            f"Encoding {encoding!r} does not decode text", f"{name}.", "Use utf-8.", code="SAL-D008"
        )
    _refuse_nul(text, name)
    if not text.strip():
        raise empty_file(name)
    return text


def marked_encoding(data: bytes) -> str:
    """Return the encoding that the byte order mark at the start of a file says; UTF-8 if there is none."""
    return next((found for mark, found in _MARKS if data.startswith(mark)), "utf-8")


def empty_file(name: str) -> DataError:
    """Return the error for a file without content."""
    return DataError(
        "The file is empty", f"{name}.", "Check the path, or export the data again.", code="SAL-D002"
    )


def _undecodable(data: bytes, name: str, encoding: str, start: int) -> DataError:
    line = data.count(b"\n", 0, start) + 1
    cure = f'Save the file as UTF-8, or name its encoding: encoding="{_likely(data)}".'
    if b"\0" in data[:4096]:
        cure = 'Is it a binary file? For UTF-16 text: encoding="utf-16".'
    return DataError(
        f"The file is not {encoding.upper()} text",
        f"{name}, line {line}: byte 0x{data[start]:02x} at offset {start:,}.",
        cure,
        code="SAL-D008",
    )


def _likely(data: bytes) -> str:
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def _refuse_nul(text: str, name: str) -> None:
    at = text.find("\0")
    if at < 0:
        return
    line = text.count("\n", 0, at) + 1
    raise DataError(
        "The file holds NUL bytes",
        f"{name}, line {line}: character {at:,}.",
        'It is a binary file, or UTF-16 text without its mark (encoding="utf-16-le"), or damaged.',
        code="SAL-D009",
    )
