"""Zips: written so that equal contents give equal bytes, read so that no zip can do harm."""

import io
import zipfile
import zlib
from collections.abc import Mapping

from paretoscope.base.errors import ArtefactError

# Most members of a zip from outside, and bytes of all of them together, unpacked: above the bundle of a network of 200
# million parameters, whose graph holds them as floats.
MOST_MEMBERS = 16
LARGEST = 1 << 30


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip whose bytes depend on nothing but the files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(".psc") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, data, compresslevel=9)
    return buffer.getvalue()


def unzip(data: bytes, largest: int = LARGEST) -> dict[str, bytes]:
    """The members by name, in memory only; raises ArtefactError.

    Names are keys and nothing else: no path is ever made of one. Sizes are bounded by what is declared, and that is
    checked before anything is unpacked. largest: bytes of all of them; more only for what was zipped here.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            names = {entry.filename for entry in entries}
            declared = sum(entry.file_size for entry in entries)
            if len(entries) > MOST_MEMBERS or len(names) != len(entries) or declared > largest:
                raise ArtefactError(
                    f"a zip must hold at most {MOST_MEMBERS} files of different names and {largest:,} bytes; this one "
                    f"has {len(entries)} with {declared:,} bytes. Pass the model.psc of a bundle, or its recipe.json."
                )
            if {entry.compress_type for entry in entries} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise ArtefactError("a zip must be stored or deflated; this one is packed otherwise. Copy it again.")
            # Asked for so many bytes, zipfile inflates no more, whatever the stream holds, and checks the checksum.
            members = {}
            for entry in entries:
                with archive.open(entry) as file:
                    members[entry.filename] = file.read(entry.file_size)
            return members
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, RuntimeError) as error:
        raise ArtefactError(f"a zip must be readable without a password; {error}. Copy it again.") from None
