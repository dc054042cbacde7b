"""Bounces: mail that reports about messages of ours, parsed and classified."""
