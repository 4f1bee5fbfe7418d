"""Time and memory of a study's way from files to the store, beside other readers.

    OMP_NUM_THREADS=1 python benchmarks/reading.py --write benchmarks/reading.md

One study is written: 200 slices of 512 x 512 and a DICOM SEG of six segments that
overlap. Each reader is a process of its own, which reads the same files; processor time
is the median of several readings in it, the first left out, and counts the processes
below it as well. Memory is the rise of the process's resident set over what its imports
took.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np

NUM_SLICES, SIDE = 200, 512
SPACING_MM = (1.5, 0.75, 0.75)
NUM_READINGS = 11
WHOLE = "ours: the whole time point, stored"
AIM = 3.0
MIB_OF_KIB = 1024
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Read = Callable[[], object]


def write_study(folder: Path) -> None:
    """Write the CT and its segmentation."""
    import highdicom
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.sr.codedict import codes
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    rng = np.random.default_rng(0)
    ct = folder / "P-1" / "ct"
    ct.mkdir(parents=True)
    study, series, frame = (generate_uid() for _ in range(3))
    slices = []
    for number in range(NUM_SLICES):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPClassUID = CTImageStorage
        one.SOPInstanceUID = generate_uid()
        one.StudyInstanceUID, one.SeriesInstanceUID = study, series
        one.FrameOfReferenceUID = frame
        one.PatientID, one.PatientName, one.PatientBirthDate = "P-1", "", ""
        one.PatientSex, one.AccessionNumber, one.StudyID = "", "", ""
        one.StudyDate, one.StudyTime, one.Modality = "20200101", "120000", "CT"
        one.ReferringPhysicianName = one.Manufacturer = ""
        one.PositionReferenceIndicator = ""
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.SeriesNumber, one.InstanceNumber = 1, number + 1
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [-192.0, -192.0, number * SPACING_MM[0]]
        one.PixelSpacing, one.SliceThickness = list(SPACING_MM[1:]), SPACING_MM[0]
        one.Rows = one.Columns = SIDE
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 1
        one.RescaleSlope, one.RescaleIntercept = 1, -1024
        pixels = rng.normal(1110, 20, (SIDE, SIDE))
        one.PixelData = pixels.astype("<i2").tobytes()
        one.save_as(ct / f"{number:03}.dcm", enforce_file_format=True)
        slices.append(one)
    masks = np.zeros((NUM_SLICES, SIDE, SIDE, 6), np.uint8)
    masks[40:160, 100:350, 80:330, 0] = 1
    for segment in range(1, 6):
        low = 60 + 12 * segment
        masks[low : low + 20, 150:200, 100 + 20 * segment : 160 + 20 * segment] |= (
            np.arange(6) == segment
        ).astype(np.uint8)
    labels = ["Liver", "Liver Remnant", "Hepatic", "Portal", "Tumor_1", "Tumor_2"]
    file = highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=masks,
        segmentation_type="BINARY",
        segment_descriptions=[
            highdicom.seg.SegmentDescription(
                number, label, codes.SCT.Organ, codes.SCT.Liver, "MANUAL"
            )
            for number, label in enumerate(labels, start=1)
        ],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="made up",
        manufacturer_model_name="made up",
        software_versions="1",
        device_serial_number="1",
    )
    file.SeriesDescription = "Segmentation"
    file.save_as(folder / "P-1" / "seg.dcm")


def read_floor(folder: Path) -> Read:
    """Return pydicom's reading of every pixel once: of the slices into one array."""
    from pydicom import dcmread
    from pydicom.pixels import iter_pixels

    paths = sorted((folder / "P-1" / "ct").iterdir())

    def read() -> object:
        hu = np.empty((len(paths), SIDE, SIDE), np.float32)
        for index, path in enumerate(paths):
            one = dcmread(path)
            hu[index] = one.pixel_array
            hu[index] *= float(one.RescaleSlope)
            hu[index] += float(one.RescaleIntercept)
        for _ in iter_pixels(folder / "P-1" / "seg.dcm"):
            pass
        return hu

    return read


def read_simpleitk(folder: Path) -> Read:
    """Return SimpleITK's reading of the series."""
    import SimpleITK

    def read() -> object:
        reader = SimpleITK.ImageSeriesReader()
        names = reader.GetGDCMSeriesFileNames(str(folder / "P-1" / "ct"))
        reader.SetFileNames(names)
        return SimpleITK.GetArrayFromImage(reader.Execute())

    return read


def read_monai(folder: Path) -> Read:
    """Return MONAI's loading of the series."""
    from monai.transforms import LoadImage

    load = LoadImage(reader="PydicomReader", image_only=True)

    def read() -> object:
        return load(str(folder / "P-1" / "ct"))

    return read


def read_series(folder: Path) -> Read:
    """Return our index, gate and reading of the series' pixels."""
    from acfnet_core.cohort.contract import shipped_contract
    from acfnet_core.cohort.images.dicom_gate import gate_index
    from acfnet_core.cohort.images.dicom_index import index_folder
    from acfnet_core.cohort.images.dicom_series import read_dicom_series

    imaging = shipped_contract("crlm").imaging
    if imaging is None:
        raise ValueError("the contract has images")

    def read() -> object:
        (series,) = gate_index(index_folder(folder), imaging)
        return read_dicom_series(series)

    return read


def read_whole(folder: Path) -> Read:
    """Return our whole time point: index, gate, pixels, masks, grid and store."""
    from acfnet_core.cohort.contract import shipped_contract
    from acfnet_core.cohort.images.dicom_gate import gate_index
    from acfnet_core.cohort.images.dicom_index import index_folder
    from acfnet_core.cohort.masks.segmentation import segmentations_of
    from acfnet_core.cohort.prepared.scan_job import ScanJob, run_job
    from acfnet_core.cohort.prepared.scan_plan import PlannedScan

    imaging = shipped_contract("crlm").imaging
    if imaging is None:
        raise ValueError("the contract has images")

    def read() -> object:
        index = index_folder(folder)
        (series,) = gate_index(index, imaging)
        (segmentation,) = segmentations_of(index, {})
        scan = PlannedScan(
            series=series,
            segmentation=segmentation,
            time_months=0.0,
            time_assumed=False,
        )
        with tempfile.TemporaryDirectory() as store:
            result = run_job(
                ScanJob(
                    store_folder=Path(store),
                    pseudonym="a" * 32,
                    scans=(scan,),
                    imaging=imaging,
                )
            )
        if len(result.scans) != 1:
            raise ValueError(f"the study was refused: {result.refused}")
        return result

    return read


READERS: dict[str, Callable[[Path], Read]] = {
    "pydicom, every slice and segment once (the floor)": read_floor,
    "SimpleITK ImageSeriesReader": read_simpleitk,
    "MONAI LoadImage (PydicomReader)": read_monai,
    "ours: index, gate, pixels": read_series,
    WHOLE: read_whole,
}


def measure(name: str, folder: Path) -> dict[str, float]:
    """Measure one reader in this process."""
    read = READERS[name](folder)
    before_kib = _peak_kib()
    times = []
    for _ in range(NUM_READINGS):
        start = _processor_seconds()
        read()
        times.append(_processor_seconds() - start)
    return {
        "seconds": median(times[1:]),
        "first_seconds": times[0],
        "mib": (_peak_kib() - before_kib) / MIB_OF_KIB,
        "process_mib": _peak_kib() / MIB_OF_KIB,
    }


def _processor_seconds() -> float:
    """Return the processor time of this process and of all below it, ended ones too."""
    times: dict[int, tuple[int, int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        times[int(path.parent.name)] = (int(fields[1]), sum(map(int, fields[11:15])))
    ours, found = {os.getpid()}, 0
    while found < len(ours):
        found = len(ours)
        ours |= {pid for pid, (parent, _) in times.items() if parent in ours}
    return sum(times[pid][1] for pid in ours) / _TICKS_PER_S


def _peak_kib() -> int:
    """Return this program's own peak; getrusage's goes back beyond its start."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def tell(folder: Path) -> Iterator[str]:
    """Yield the page."""
    found = {}
    for name in READERS:
        command = [sys.executable, __file__, "--row", name, str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        answer = subprocess.run(  # noqa: S603 - our own program
            command, capture_output=True, text=True, check=True, env=environment
        )
        found[name] = json.loads(answer.stdout.strip().splitlines()[-1])
    floor = next(iter(found.values()))
    yield "# From files to the store: time and memory of one study\n"
    yield (
        "`OMP_NUM_THREADS=1 python benchmarks/reading.py --write "
        "benchmarks/reading.md`\n"
    )
    yield (
        f"{NUM_SLICES} slices of {SIDE} x {SIDE}, uncompressed, and a DICOM SEG of six "
        "segments that overlap; files in the system's cache; one thread. Seconds: "
        f"processor time of the process and those below it, the median of "
        f"{NUM_READINGS - 1} readings after a first one. "
        "MiB: rise of the resident set over the imports; in brackets the whole "
        "process.\n"
    )
    yield "| reader | s | to the floor | first, s | MiB | to the floor |"
    yield "|---|---|---|---|---|---|"
    for name, one in found.items():
        yield (
            f"| {name} | {one['seconds']:.2f} | "
            f"{one['seconds'] / floor['seconds']:.2f} | {one['first_seconds']:.2f} | "
            f"{one['mib']:.0f} ({one['process_mib']:.0f}) | "
            f"{one['mib'] / floor['mib']:.2f} |"
        )
    yield (
        "\nThe floor and the other readers turn every slice into numbers, and so does "
        "our reading of pixels alone. The whole time point hashes every byte of every "
        "file and checks every header; of the slices it turns into numbers those that "
        "the grid around the liver can reach, here 118. Compressed slices are decoded "
        "wherever they lie."
    )
    whole = found[WHOLE]
    yield (
        f"\nThe aim for a whole time point is {AIM:g} times the floor in time; it "
        f"takes {whole['seconds'] / floor['seconds']:.2f} times."
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--row", nargs=2, metavar=("READER", "FOLDER"))
    parser.add_argument("--write", type=Path, help="markdown file to write")
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options.row[0], Path(options.row[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_study(Path(folder))
        text = "\n".join(tell(Path(folder))) + "\n"
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
