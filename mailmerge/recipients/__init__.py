"""List files become a stream of recipients."""
