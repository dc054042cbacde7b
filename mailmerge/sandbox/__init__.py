"""A loopback SMTP server to rehearse against."""
