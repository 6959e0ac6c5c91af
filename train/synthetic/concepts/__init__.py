"""What is seen and what it sounds like: a table of concepts, and made-up frame features that show a concept."""
