"""What a `Module` is made of: one instance for each format of modules in each of TensorFlow's two worlds."""
