"""How the images are made: a folder with a Dockerfile for each, and what builds them."""
