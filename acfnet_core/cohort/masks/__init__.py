"""Where the liver and its tumours are drawn: DICOM SEG, RTSTRUCT and NIfTI."""
