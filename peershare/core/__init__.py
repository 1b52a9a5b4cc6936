"""Decides what every message means, synchronously and purely: ids and times come in, work comes out."""
