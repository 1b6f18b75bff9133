"""From a scene, or from words on a card, to PNG bytes."""
