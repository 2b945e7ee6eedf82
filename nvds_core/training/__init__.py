"""Training of the bundled models on synthetic scenes."""
