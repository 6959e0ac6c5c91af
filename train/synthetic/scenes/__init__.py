"""Simulated clips: rigid bodies in MuJoCo, filmed by a virtual camera, with a sound at each contact.

A clip is made in this order: a kind of scene (`kinds/`) fills a `World` (`world`), MuJoCo simulates it (`physics`),
the contacts become events (`contacts`), the events become sound (`sound`), and the scene is drawn (`render`) and
filmed (`film`). `compose` joins these steps.
"""
