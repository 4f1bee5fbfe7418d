"""CT series: what lies in a folder, which of it may be read, and its voxels."""
