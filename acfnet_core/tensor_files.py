"""Safetensors files, written wholly or not at all and without a copy in the memory.

The library writes such a file from the arrays as they lie, but knows of no fsync and
hides the operating system's errors in a text.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from acfnet_core.files import replacing

_ERROR_NUMBER = re.compile(r"\(os error (\d+)\)")


def write_tensors(
    path: Path,
    tensors: Mapping[str, NDArray[Any]],
    *,
    mode: int = 0o644,
    metadata: dict[str, str] | None = None,
) -> None:
    """Replace `path` by a safetensors file of some arrays, wholly or not at all.

    Args:
        path: The file to write; its folder must exist.
        tensors: The arrays by name, contiguous.
        mode: Permission bits of the new file; `PRIVATE_MODE` for what is of patients.
        metadata: What stands in the file's head beside names, dtypes and shapes.

    Raises:
        MachineError: The folder cannot be written or the disk is full. The old file,
            if there was one, is untouched.
    """
    with replacing(path, mode=mode) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata=metadata)
        except SafetensorError as error:
            number = _ERROR_NUMBER.search(str(error))
            if number is None:
                raise
            code = int(number[1])
            raise OSError(code, os.strerror(code)) from error
