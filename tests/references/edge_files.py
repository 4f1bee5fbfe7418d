"""Edge series as files: every transfer syntax, and files that break off."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from openjpeg.utils import encode_array
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
)
from references.edge_world import Slice


def write_slices(
    slices: Sequence[Slice], folder: Path, syntax: str = ExplicitVRLittleEndian
) -> None:
    """Write slices as files; the names say nothing of the order."""
    for index, one in enumerate(slices):
        number = one.dataset.SeriesNumber
        name = f"{(index * 7) % len(slices):03}-{index}-{number}.dcm"
        write_file(one.dataset, folder / name, syntax)


def write_file(dataset: Dataset, path: Path, syntax: str) -> None:
    """Write a file as it is, also where it is wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID") or CTImageStorage
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or "1.2"
    dataset.file_meta = meta
    dataset.save_as(path, enforce_file_format=True)


def cut_off(path: Path, num_bytes: int) -> None:
    """Take bytes off a file's end."""
    path.write_bytes(path.read_bytes()[:-num_bytes])


def swap_pixel_bytes(dataset: Dataset) -> None:
    """Turn stored words to big endian: pydicom writes them as they are."""
    words = np.frombuffer(dataset.PixelData, "<u2")
    dataset.PixelData = words.astype(">u2").tobytes()


def compress(dataset: Dataset, syntax: str) -> None:
    """Compress the pixels of a plain image without loss.

    JPEG lossless is encoded by GDCM, which SimpleITK brings; the rest by pydicom's
    encoders and by OpenJPEG.
    """
    signed = bool(dataset.PixelRepresentation)
    pixels = np.frombuffer(dataset.PixelData, "<i2" if signed else "<u2")
    pixels = pixels.reshape(dataset.Rows, dataset.Columns)
    if syntax == JPEG2000Lossless:
        frames = [encode_array(pixels, bits_stored=int(dataset.BitsStored))]
    elif syntax in (JPEGLossless, JPEGLosslessSV1):
        frames = [_jpeg_lossless(pixels)]
    else:
        _compress_by_pydicom(dataset, syntax)
        return
    _encapsulate(dataset, frames)


def compress_enhanced(file: Any, syntax: str) -> None:
    """Compress the frames of a file without loss, if the syntax asks for it."""
    if not UID(syntax).is_compressed:
        return
    if syntax not in (JPEG2000Lossless, JPEGLosslessSV1):
        _compress_by_pydicom(file, syntax)
        return
    shape = (int(file.NumberOfFrames), file.Rows, file.Columns)
    pixels = np.frombuffer(file.PixelData, "<i2").reshape(shape)
    if syntax == JPEGLosslessSV1:
        frames = [_jpeg_lossless(frame) for frame in pixels]
    else:
        frames = [encode_array(frame, bits_stored=16) for frame in pixels]
    _encapsulate(file, frames)


def _compress_by_pydicom(dataset: Any, syntax: str) -> None:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.compress(UID(syntax), generate_instance_uid=False)


def _encapsulate(dataset: Any, frames: list[bytes]) -> None:
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def _jpeg_lossless(pixels: np.ndarray) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.dcm"
        writer = SimpleITK.ImageFileWriter()
        writer.SetFileName(str(path))
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        writer.Execute(SimpleITK.GetImageFromArray(np.ascontiguousarray(pixels)[None]))
        file = dcmread(path)
        assert file.file_meta.TransferSyntaxUID == JPEGLosslessSV1
        return next(generate_frames(file.PixelData, number_of_frames=1))
