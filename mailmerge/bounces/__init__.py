"""What comes back: mail that reports on a message of ours, read and sorted."""
