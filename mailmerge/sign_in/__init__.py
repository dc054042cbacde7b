"""Signing in with tokens: in the user's browser, by a code on another device, by a program's own key."""
