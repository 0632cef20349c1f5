"""Measure fixes against those of policy maintainers: sepolicyd, audit2allow, audit2allow -R and audit2why on the same rows."""
