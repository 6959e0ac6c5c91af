"""New sound for rendered scenes: clips whose sound follows a concept, or the material of what touches.

scene.py     reads a scene's events, and how much its picture moves
pool.py      recordings by label; cuts.py finds single hits and calls in them; pitch.py finds their pitch
plan.py      draws what a clip shows: concepts and spans of time
ways.py      sounds of concepts that are hit or that call; steady.py: that run; notes.py: that play
compose.py   makes a clip from all of these
"""
