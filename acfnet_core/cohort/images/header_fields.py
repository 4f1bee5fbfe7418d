"""What a DICOM header says, under the names of `dicom_index.InstanceHeader`."""

from typing import Any

from acfnet_core.cohort.images.header_values import (
    integer_of,
    is_in_hu,
    named_series_of,
    number_of,
    numbers_of,
    segment_labels_of,
    text_of,
)
from acfnet_core.cohort.masks.rtstruct_header import (
    frame_of_structures,
    names_of_structures,
    series_of_structures,
)


def fields_of(dataset: Any) -> dict[str, Any]:
    """Return all of an `InstanceHeader` that stands in the header itself.

    Args:
        dataset: With `get`, as pydicom's datasets have it.

    Raises:
        Exception: Any of `dicom_index.READ_ERRORS`, of a value that is damaged.
    """
    lossy = str(dataset.get("LossyImageCompression", "") or "")
    modality = text_of(dataset, "Modality")
    is_structures = modality == "RTSTRUCT"
    frame_of_reference_uid = (
        frame_of_structures(dataset)
        if is_structures
        else text_of(dataset, "FrameOfReferenceUID")
    )
    return {
        "patient_id": text_of(dataset, "PatientID"),
        "study_uid": text_of(dataset, "StudyInstanceUID"),
        "series_uid": text_of(dataset, "SeriesInstanceUID"),
        "sop_instance_uid": text_of(dataset, "SOPInstanceUID"),
        "frame_of_reference_uid": frame_of_reference_uid,
        "study_date": text_of(dataset, "StudyDate"),
        "series_description": text_of(dataset, "SeriesDescription"),
        "sop_class_uid": text_of(dataset, "SOPClassUID"),
        "modality": modality,
        "image_type": tuple(str(part) for part in dataset.get("ImageType", None) or ()),
        "photometric": text_of(dataset, "PhotometricInterpretation"),
        "is_burned_in": text_of(dataset, "BurnedInAnnotation").upper() == "YES",
        "is_lossy": {"00": False, "01": True}.get(lossy),
        "bits_allocated": integer_of(dataset, "BitsAllocated"),
        "num_samples": integer_of(dataset, "SamplesPerPixel", 1),
        "num_frames": integer_of(dataset, "NumberOfFrames", 1),
        "num_rows": integer_of(dataset, "Rows"),
        "num_columns": integer_of(dataset, "Columns"),
        "position": numbers_of(dataset, "ImagePositionPatient", 3),
        "orientation": numbers_of(dataset, "ImageOrientationPatient", 6),
        "pixel_spacing": numbers_of(dataset, "PixelSpacing", 2),
        "has_rescale": is_in_hu(dataset),
        "slice_thickness_mm": number_of(dataset, "SliceThickness"),
        "patient_sex": text_of(dataset, "PatientSex"),
        "patient_age": text_of(dataset, "PatientAge"),
        "series_number": text_of(dataset, "SeriesNumber"),
        "referenced_series": (
            series_of_structures(dataset) if is_structures else named_series_of(dataset)
        ),
        "segment_labels": (
            names_of_structures(dataset)
            if is_structures
            else segment_labels_of(dataset)
        ),
    }
