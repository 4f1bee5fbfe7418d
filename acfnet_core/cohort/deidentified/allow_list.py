"""Which attributes a copy may have, and how each is cleaned; all others are left out.

Sequences have allow-lists of their own. Attributes that DICOM asks for and that could
name somebody are written empty or with a constant. Labels, names of structures, series
descriptions and the numbers of series and images are set by the writers.

The day of the study is the only one that is kept, moved. Another day, such as that on
which all segmentations of a project were written, may be known to a reader, and would
tell how far the patient's days were moved.

Source: DICOM PS3.3 sections A.3, A.38, A.51 and A.19 for what must be there; PS3.15
table E.1-1 for what must not.
"""

import re

from pydicom.datadict import tag_for_keyword
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)

from acfnet_core.cohort.deidentified.cleaning_rules import (
    AllowList,
    CappedAge,
    Fixed,
    Items,
    KeyedUid,
    Number,
    Pattern,
    Pointer,
    Prefixed,
    Pseudonym,
    Rule,
    ShiftedDay,
    Word,
)

LABELMAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
CT_CLASSES = frozenset({str(CTImageStorage), str(EnhancedCTImageStorage)})
SEG_CLASSES = frozenset({str(SegmentationStorage), LABELMAP_SEGMENTATION_STORAGE})
RTSTRUCT_CLASSES = frozenset({str(RTStructureSetStorage)})

_STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"
"""What an RTSTRUCT's reference to a study names as its class; retired, still asked."""
_MAX_16_BITS = 65535
_PLACE_MM = 10_000
_NOON = "120000"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_EMPTY: Rule = Fixed(value="")
_REMOVED: Rule = Fixed(value="REMOVED")
_YES_OR_NO: Rule = Word(allowed=_words("YES NO"))
_COUNT: Rule = Number(low=0, high=_MAX_16_BITS)
_PLACE: Rule = Number(low=-_PLACE_MM, high=_PLACE_MM)
_COSINES: Rule = Number(low=-2, high=2)
_LENGTH_MM: Rule = Number(low=0, high=1000)
_HU: Rule = Number(low=-100_000, high=100_000)
_KEYED_UID: Rule = KeyedUid()
_IMAGE_CLASS: Rule = Word(allowed=CT_CLASSES | SEG_CLASSES)
_FRAME_TYPES: Rule = Word(allowed=_words("ORIGINAL PRIMARY AXIAL HELICAL VOLUME NONE"))
_MANUFACTURERS = (
    ("GE ", "GE"),
    ("GENERAL ELECTRIC", "GE"),
    ("SIEMENS", "SIEMENS"),
    ("PHILIPS", "PHILIPS"),
    ("TOSHIBA", "TOSHIBA"),
    ("CANON", "CANON"),
    ("HITACHI", "HITACHI"),
    ("NEUSOFT", "NEUSOFT"),
    ("UIH", "UIH"),
    ("UNITED IMAGING", "UIH"),
)
_KERNEL = re.compile(
    r"STANDARD|SOFT|DETAIL|BONE|BONEPLUS|EDGE|LUNG|CHEST|[A-D]|FC\d\d|"
    r"[BDHIJQSTU][a-z]?\d\d[a-z]?"
)
"""Kernels of the large makers; a number in one has two digits."""
_INSTANCE_REFERENCE: AllowList = {
    "ReferencedSOPClassUID": _IMAGE_CLASS,
    "ReferencedSOPInstanceUID": _KEYED_UID,
}
_SOURCE_IMAGE: AllowList = {
    **_INSTANCE_REFERENCE,
    "ReferencedFrameNumber": _COUNT,
    "SpatialLocationsPreserved": _YES_OR_NO,
}
_SERIES_REFERENCE: AllowList = {
    "SeriesInstanceUID": _KEYED_UID,
    "ReferencedInstanceSequence": Items(_INSTANCE_REFERENCE),
}
_POINTED_AT = frozenset(
    int(tag)
    for keyword in (
        "FrameContentSequence",
        "ImagePositionPatient",
        "InStackPositionNumber",
        "PlanePositionSequence",
        "ReferencedSegmentNumber",
        "SegmentIdentificationSequence",
        "StackID",
        "TemporalPositionIndex",
    )
    if (tag := tag_for_keyword(keyword)) is not None
)

PATIENT_AND_STUDY: AllowList = {
    "PatientID": Pseudonym(),
    "PatientName": _EMPTY,
    "PatientBirthDate": _EMPTY,
    "PatientSex": Word(allowed=_words("F M O"), otherwise=""),
    "PatientAge": CappedAge(),
    "PatientIdentityRemoved": Fixed(value="YES"),
    "DeidentificationMethod": Fixed(value="acfnet allow-list 1"),
    "LongitudinalTemporalInformationModified": Fixed(value="MODIFIED"),
    "StudyInstanceUID": _KEYED_UID,
    "StudyDate": ShiftedDay(otherwise=""),
    "StudyTime": _EMPTY,
    "StudyID": _EMPTY,
    "AccessionNumber": _EMPTY,
    "ReferringPhysicianName": _EMPTY,
    "SOPInstanceUID": _KEYED_UID,
    "SeriesInstanceUID": _KEYED_UID,
}
"""What every file of a copy has."""

_PLANE: AllowList = {
    "ImagePositionPatient": _PLACE,
}
_ORIENTATION: AllowList = {"ImageOrientationPatient": _COSINES}
_MEASURES: AllowList = {
    "PixelSpacing": _LENGTH_MM,
    "SliceThickness": _LENGTH_MM,
    "SpacingBetweenSlices": Number(low=-1000, high=1000),
}
_RESCALE: AllowList = {
    "RescaleIntercept": _HU,
    "RescaleSlope": _HU,
    "RescaleType": Word(allowed=_words("HU US")),
}
_FRAME_CONTENT: AllowList = {
    "DimensionIndexValues": _COUNT,
    "StackID": Pattern(form=re.compile(r"\d{1,2}")),
    "InStackPositionNumber": _COUNT,
    "TemporalPositionIndex": _COUNT,
}
_FRAME_TYPE: AllowList = {
    "FrameType": _FRAME_TYPES,
    "PixelPresentation": Word(allowed=_words("MONOCHROME")),
    "VolumetricProperties": Word(allowed=_words("VOLUME")),
    "VolumeBasedCalculationTechnique": Word(allowed=_words("NONE")),
}
_GEOMETRY_GROUPS: AllowList = {
    "FrameContentSequence": Items(_FRAME_CONTENT),
    "PixelMeasuresSequence": Items(_MEASURES),
    "PlanePositionSequence": Items(_PLANE),
    "PlaneOrientationSequence": Items(_ORIENTATION),
}
_PIXELS: AllowList = {
    "SamplesPerPixel": Number(low=1, high=1),
    "PhotometricInterpretation": Fixed(value="MONOCHROME2"),
    "NumberOfFrames": _COUNT,
    "Rows": _COUNT,
    "Columns": _COUNT,
    "BitsAllocated": Number(low=1, high=16),
    "BitsStored": Number(low=1, high=16),
    "HighBit": Number(low=0, high=15),
    "PixelRepresentation": Number(low=0, high=1),
    "LossyImageCompression": Word(allowed=_words("00 01")),
    "BurnedInAnnotation": Word(allowed=_words("NO")),
}
_DIMENSIONS: AllowList = {
    "DimensionOrganizationType": Word(allowed=_words("3D TILED_FULL TILED_SPARSE")),
    "DimensionOrganizationSequence": Items({"DimensionOrganizationUID": _KEYED_UID}),
    "DimensionIndexSequence": Items(
        {
            "DimensionOrganizationUID": _KEYED_UID,
            "DimensionIndexPointer": Pointer(allowed=_POINTED_AT),
            "FunctionalGroupPointer": Pointer(allowed=_POINTED_AT),
        }
    ),
}

_CT_GROUPS: AllowList = {
    **_GEOMETRY_GROUPS,
    "PixelValueTransformationSequence": Items(_RESCALE),
    "CTImageFrameTypeSequence": Items(_FRAME_TYPE),
}
CT: AllowList = {
    **PATIENT_AND_STUDY,
    **_PIXELS,
    **_PLANE,
    **_ORIENTATION,
    **_MEASURES,
    **_RESCALE,
    **_DIMENSIONS,
    **{k: v for k, v in _FRAME_TYPE.items() if k != "FrameType"},
    "SOPClassUID": Word(allowed=CT_CLASSES),
    "Modality": Fixed(value="CT"),
    "ImageType": _FRAME_TYPES,
    "AcquisitionNumber": _EMPTY,
    "FrameOfReferenceUID": _KEYED_UID,
    "PositionReferenceIndicator": _EMPTY,
    "Manufacturer": Prefixed(spellings=_MANUFACTURERS, otherwise=""),
    "PatientPosition": Word(
        allowed=_words("HFS HFP HFDR HFDL FFS FFP FFDR FFDL"), otherwise=""
    ),
    "ConvolutionKernel": Pattern(form=_KERNEL),
    "KVP": Number(low=1, high=400, otherwise=""),
    "XRayTubeCurrent": Number(low=0, high=5000),
    "Exposure": Number(low=0, high=5000),
    "ExposureTime": Number(low=0, high=60_000),
    "ReconstructionDiameter": _LENGTH_MM,
    "GantryDetectorTilt": Number(low=-90, high=90),
    "PixelPaddingValue": Number(low=-32768, high=65535),
    "SliceLocation": _PLACE,
    "WindowCenter": _HU,
    "WindowWidth": _HU,
    "SharedFunctionalGroupsSequence": Items(_CT_GROUPS),
    "PerFrameFunctionalGroupsSequence": Items(_CT_GROUPS),
}
"""A slice of CT, or a multi-frame CT."""

_SEG_GROUPS: AllowList = {
    **_GEOMETRY_GROUPS,
    "SegmentIdentificationSequence": Items({"ReferencedSegmentNumber": _COUNT}),
    "DerivationImageSequence": Items({"SourceImageSequence": Items(_SOURCE_IMAGE)}),
}
SEG: AllowList = {
    **PATIENT_AND_STUDY,
    **_PIXELS,
    **_DIMENSIONS,
    "SOPClassUID": Word(allowed=SEG_CLASSES),
    "Modality": Fixed(value="SEG"),
    "ImageType": Fixed(value="DERIVED\\PRIMARY"),
    "ContentTime": Fixed(value=_NOON),
    "ContentLabel": Fixed(value="SEGMENTATION"),
    "ContentDescription": _EMPTY,
    "ContentCreatorName": _EMPTY,
    "FrameOfReferenceUID": _KEYED_UID,
    "PositionReferenceIndicator": _EMPTY,
    "Manufacturer": _REMOVED,
    "ManufacturerModelName": _REMOVED,
    "DeviceSerialNumber": _REMOVED,
    "SoftwareVersions": _REMOVED,
    "SegmentationType": Word(allowed=_words("BINARY FRACTIONAL LABELMAP")),
    "SegmentationFractionalType": Word(allowed=_words("PROBABILITY OCCUPANCY")),
    "MaximumFractionalValue": Number(low=1, high=255),
    "SegmentsOverlap": Word(allowed=_words("YES NO UNDEFINED")),
    "PixelPaddingValue": Number(low=0, high=65535),
    "SegmentSequence": Items(
        {
            "SegmentNumber": _COUNT,
            "SegmentAlgorithmType": Word(
                allowed=_words("AUTOMATIC SEMIAUTOMATIC MANUAL"), otherwise="MANUAL"
            ),
        }
    ),
    "ReferencedSeriesSequence": Items(_SERIES_REFERENCE),
    "SharedFunctionalGroupsSequence": Items(_SEG_GROUPS),
    "PerFrameFunctionalGroupsSequence": Items(_SEG_GROUPS),
}
"""A DICOM SEG."""

_CONTOUR: AllowList = {
    "ContourImageSequence": Items(_SOURCE_IMAGE),
    "ContourGeometricType": Word(
        allowed=_words(
            "POINT OPEN_PLANAR OPEN_NONPLANAR CLOSED_PLANAR CLOSEDPLANAR_XOR"
        )
    ),
    "NumberOfContourPoints": Number(low=0, high=10_000_000),
    "ContourData": _PLACE,
}
RTSTRUCT: AllowList = {
    **PATIENT_AND_STUDY,
    "SOPClassUID": Word(allowed=RTSTRUCT_CLASSES),
    "Modality": Fixed(value="RTSTRUCT"),
    "FrameOfReferenceUID": _KEYED_UID,
    "PositionReferenceIndicator": _EMPTY,
    "Manufacturer": _EMPTY,
    "OperatorsName": _EMPTY,
    "StructureSetLabel": Fixed(value="STRUCTURES"),
    "StructureSetDate": _EMPTY,
    "StructureSetTime": _EMPTY,
    "ReferencedFrameOfReferenceSequence": Items(
        {
            "FrameOfReferenceUID": _KEYED_UID,
            "RTReferencedStudySequence": Items(
                {
                    "ReferencedSOPClassUID": Fixed(value=_STUDY_COMPONENT),
                    "ReferencedSOPInstanceUID": _KEYED_UID,
                    "RTReferencedSeriesSequence": Items(
                        {
                            "SeriesInstanceUID": _KEYED_UID,
                            "ContourImageSequence": Items(_SOURCE_IMAGE),
                        }
                    ),
                }
            ),
        }
    ),
    "StructureSetROISequence": Items(
        {
            "ReferencedFrameOfReferenceUID": _KEYED_UID,
            "ROIGenerationAlgorithm": Word(
                allowed=_words("AUTOMATIC SEMIAUTOMATIC MANUAL"), otherwise=""
            ),
        }
    ),
    "ROIContourSequence": Items(
        {
            "ROIDisplayColor": Number(low=0, high=255),
            "ContourSequence": Items(_CONTOUR),
        }
    ),
}
"""An RTSTRUCT; the observations of its structures are made anew."""
