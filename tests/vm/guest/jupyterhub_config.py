"""JupyterHub configuration as in the published procedure: TLS, cookie secret, real users through PAM, full paths."""

import sys

c = get_config()  # noqa: F821 - JupyterHub's loader provides it
c.JupyterHub.port = 8000
c.JupyterHub.ssl_key = "/etc/jupyterhub/keys/hub.key"
c.JupyterHub.ssl_cert = "/etc/jupyterhub/keys/hub.crt"
c.JupyterHub.cookie_secret_file = "/etc/jupyterhub/cookie_secret"
c.JupyterHub.db_url = "sqlite:////var/lib/jupyterhub/jupyterhub.sqlite"
c.ConfigurableHTTPProxy.command = ["/usr/local/bin/configurable-http-proxy"]
c.ConfigurableHTTPProxy.pid_file = "/var/lib/jupyterhub/jupyterhub-proxy.pid"
c.Spawner.cmd = [sys.prefix + "/bin/jupyterhub-singleuser"]
c.Spawner.default_url = "/lab"
c.Spawner.start_timeout = 420
c.Spawner.http_timeout = 420
c.Authenticator.allowed_users = {"alice", "bob", "teacher"}
c.Authenticator.admin_users = {"teacher"}
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
# Limits and other additions of a scenario.
load_subconfig("/etc/jupyterhub/extra.py")  # noqa: F821
