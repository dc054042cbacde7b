"""What has happened: a record before the wire, an outcome after, in SQLite."""
