"""What a client sends and gets: routes, checks before them, and their OpenAPI document."""
