"""What rules can know of a completion: refusals, claims about a scene, confidence, instructions."""
