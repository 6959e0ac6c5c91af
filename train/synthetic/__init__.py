"""Synthetic training clips: video, sound, and the exact list of events. No module here imports PyTorch.

drawn/        clips of simple drawn shapes: plain, and fast to make
scenes/       clips of scenes that MuJoCo simulates and draws
sounding/     new sound for rendered scenes, which follows a concept
concepts/     the table of concepts, and made-up frame features that show them
build.py      makes many clips for either of them; recordings.py and modal_synthesis.py make the sound
credits.py    writes CREDITS.md for the recordings
"""
