"""Members of zips that are stored as they are, so that they need not be copied."""

import struct
import zipfile
from typing import Any

from rnnatlas.importers.hdf5_texts import Part

__all__ = ["Part", "start"]
_BLOCK = 1 << 20


def check(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Reads a member once, of which nothing is kept.

    Raises:
        zipfile.BadZipFile: Its checksum is another.
    """
    with archive.open(member) as content:
        while content.read(_BLOCK):
            pass


def start(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: Any) -> int:
    """Where the bytes of a member begin in the file of its archive, after they were checked.

    Raises:
        zipfile.BadZipFile: Its checksum is another.
    """
    check(archive, member)
    file.seek(member.header_offset + 26)
    return member.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
