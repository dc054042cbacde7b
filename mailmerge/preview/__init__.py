"""Messages for review before anything is sent: a page with all of them, files, text for a terminal."""
