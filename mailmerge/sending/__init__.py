"""The send loop: throttle, connections, policy and group commit around one ledger."""
