"""Untrusted code: what isolation the host offers, and isolated Python interpreters that can be killed."""
