"""Alarms for a policy that drifts, and what happens then."""
