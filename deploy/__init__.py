"""What is installed: charts, the manifests made from them, the images. Not part of the wheel."""
