"""Files that are damaged or made to harm, for whatever reads them back."""

import io
import os
import zipfile

import numpy as np


def npy(descr, shape, data, *, fortran=False, version=(1, 0)):
    """A `.npy` whose header says anything."""
    out = io.BytesIO()
    out.write(np.lib.format.magic(*version))
    header = repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode() + b"\n"
    out.write(len(header).to_bytes(2 if version[0] == 1 else 4, "little") + header + data)
    return out.getvalue()


def changed(path, changes, *, compression=zipfile.ZIP_STORED):
    """Rewrite an `.npz` with some members replaced, by arrays or bytes, or left out (None)."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    for name, value in changes.items():
        if isinstance(value, np.ndarray):
            out = io.BytesIO()
            np.lib.format.write_array(out, value)
            value = out.getvalue()
        members[f"{name}.npy"] = value
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, value in members.items():
            if value is not None:
                archive.writestr(name, value)


def no_file(kind, path):
    """Put something that is no file in the place of one."""
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"a device": "/dev/zero", "a link to nothing": "nothing"}.get(kind, path))


NO_FILES = ("a folder", "a pipe", "a device", "a link to nothing", "Too many levels")
