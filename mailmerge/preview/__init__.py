"""Messages to look at: terminal, .eml files, mbox."""
