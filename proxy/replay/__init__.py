"""Sends again or plays back what was recorded. Knows neither journal nor forward."""
