"""Policies: models that answer asks, from scripted ones to local weights and remote servers."""
