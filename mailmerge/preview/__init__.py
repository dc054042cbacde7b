"""Messages to look at before anything is sent: a page with all of them, files, text for a terminal."""
