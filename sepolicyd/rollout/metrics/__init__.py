"""The state of a rollout as Prometheus metrics."""
