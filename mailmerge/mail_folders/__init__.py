"""The user's mail folders: on an IMAP server, in a maildir, in an mbox."""
