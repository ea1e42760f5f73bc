"""What a user does to an image with a denoiser, a file a method."""
