"""Object detection on small drawn scenes, from the data to the average precision (notebook 10)."""
