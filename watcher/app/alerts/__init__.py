"""Telling people of trouble, once when it begins and once when it ends."""
