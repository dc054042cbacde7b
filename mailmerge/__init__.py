"""Mail merge you can trust with your name."""
