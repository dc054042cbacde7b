"""Signing in with tokens: the user's browser, a code for another device, a program's own key."""
