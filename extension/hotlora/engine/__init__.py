"""How to train an adapter on anything. Knows no image, token, host or widget, and imports no other room."""
