"""Adapters: what the ports stand for, one package for each port."""
