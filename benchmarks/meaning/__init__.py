"""Does a generated sound mean what the video shows? Semantic lift against the true sound."""
