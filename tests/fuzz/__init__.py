"""Coverage-guided fuzzing of what reads strangers' bytes: the CSV reader and the zip reader."""
