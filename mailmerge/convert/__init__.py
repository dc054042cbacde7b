"""Files of other mail merge programs, read as campaigns of ours."""
