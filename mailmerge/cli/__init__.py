"""The command line: argv in, terminal and exit codes out; the only rooms that print."""
