"""Timeline files: the video on a picture track and every take on an audio track, for editing programs."""
