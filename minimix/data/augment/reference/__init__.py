"""What each step of augmentation means, in NumPy: whole batches of images at a time."""
