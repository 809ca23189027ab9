"""Devices, sessions, and what they share."""
