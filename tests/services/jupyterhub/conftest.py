"""The machine on which `init` has been run, shared with the policy tests."""

from __future__ import annotations

from tests.policies.jupyterhub.conftest import inited, policy, profile

__all__ = ["inited", "policy", "profile"]
