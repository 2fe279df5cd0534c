"""Restylers, each a file: another look for an image whose content stays where it is."""
