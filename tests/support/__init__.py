"""What tests and sample volumes are made of: images, a layout writer, a real registry and its client."""
