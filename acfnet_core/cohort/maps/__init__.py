"""Risk maps in a scan's own geometry, and as DICOM."""
