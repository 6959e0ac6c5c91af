"""Made-up clips with known events: pictures, sound and the list of what happens."""
