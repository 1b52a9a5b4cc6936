"""Protocols between the runtime, the gateway and the adapters. Nothing here does anything."""
