"""TensorFlow through its C API: models run without importing TensorFlow's Python."""
