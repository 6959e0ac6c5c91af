"""What a bundle makes of made-up clips whose contacts are known."""
