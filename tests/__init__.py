"""Tests. They mirror the package; what they share is in `support`."""
