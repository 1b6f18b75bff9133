"""Tiny backbones: real model classes with small configurations, one file each."""
