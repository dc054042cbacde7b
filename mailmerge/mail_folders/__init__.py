"""Folders of mail that belong to the user: on an IMAP server, a maildir, an mbox."""
