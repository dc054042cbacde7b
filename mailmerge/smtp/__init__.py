"""One SMTP session: sans-IO protocol, sign-in, replies, and the connection that pumps it."""
