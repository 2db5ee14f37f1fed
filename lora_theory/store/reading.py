"""Opening what is read back: a regular file, or a link to one, and nothing that could block."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lora_theory.store.files import ResultsError, kind_of

_JSON_BYTES = 2**28  # Far more than any record that is written.


@contextlib.contextmanager
def regular(path: str | Path) -> Iterator[IO[bytes]]:
    """A regular file, or a link to one, open for reading.

    Opened without blocking and looked at afterwards, so that what is checked is what is read.

    Raises:
        FileNotFoundError: nothing is there.
        ResultsError: what is there can not be read: a folder, a pipe, a device, a link to nothing,
            somebody else's file, a broken disk. It says nothing about deleting it.

    >>> import pathlib, tempfile
    >>> with regular(tempfile.mkdtemp()):
    ...     pass  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    lora_theory.store.files.ResultsError: ...: can not be read (a folder); move it or change out
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        if os.path.lexists(path):
            raise unreadable(path, "a link to nothing") from None
        raise
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if (kind := kind_of(handle)) != "a file":
        os.close(handle)
        raise unreadable(path, kind)
    with open(handle, "rb") as file:
        try:
            yield file
        except OSError as error:
            raise unreadable(path, error) from None


def read_json(path: str | Path) -> Any:
    """Plain data as `write_json` wrote it.

    Raises:
        FileNotFoundError, ResultsError: as `regular`.
        ValueError: it is no such data.
    """
    with regular(path) as file:
        text = file.read(_JSON_BYTES + 1)
    if len(text) > _JSON_BYTES:
        raise ValueError("larger than any record")
    return parsed(text.decode())


def parsed(text: str) -> Any:
    """JSON without what JSON does not know: NaN, infinities, half a letter, a key twice.

    Raises:
        ValueError: it has some of that, or is no JSON.

    >>> parsed('{"a": [1, null]}')
    {'a': [1, None]}
    >>> parsed('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ...
    ValueError: a: a key that is there twice
    """
    try:
        data = json.loads(text, object_pairs_hook=_group, parse_constant=_refuse)
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise ValueError("nested without end") from None
    return data


def unreadable(path: str | Path, why: object) -> ResultsError:
    """The error of what could not be read, which nobody should be told to delete."""
    said = (isinstance(why, OSError) and why.strerror) or why
    return ResultsError(f"{path}: can not be read ({said}); move it or change out")


def _group(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"{twice:.60}: a key that is there twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant}: no number of JSON")
