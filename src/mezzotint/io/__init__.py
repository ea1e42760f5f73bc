"""Weights and model folders on disk: safe to read, written whole or not at all."""
