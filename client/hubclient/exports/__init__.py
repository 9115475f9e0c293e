"""What `export` finds out about an object, and what it adds to it before TensorFlow saves it."""
