"""Port numbers of a hub by its configuration."""

from __future__ import annotations

from collections.abc import Mapping

from sepolicyd.services.jupyterhub.classes import PROXIES, Proxy, kind_of
from sepolicyd.services.jupyterhub.config.settings import HubConfig, port_of

PUBLIC_PORT, PROXY_PORT, HUB_PORT = 8000, 8001, 8081
TRAEFIK_API_PORT = 8099
PORT_SETTINGS = (
    *("JupyterHub.port", "JupyterHub.bind_url", "JupyterHub.hub_port", "JupyterHub.hub_bind_url"),
    *("JupyterHub.proxy_api_port", "ConfigurableHTTPProxy.api_url", "TraefikProxy.traefik_api_url"),
)


def ports_of(config: HubConfig, options: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Return the numbers by the names that the profile gives its ports.

    :param options: the hub's command-line options, by name
    """
    public = config.number("JupyterHub.port") or _of_url(config.text("JupyterHub.bind_url"), PUBLIC_PORT)
    traefik = kind_of(config.classes("JupyterHub.proxy_class"), PROXIES, Proxy.HTTP_PROXY, Proxy.UNKNOWN) is Proxy.TRAEFIK
    urls = ("TraefikFileProviderProxy.traefik_api_url", "TraefikProxy.traefik_api_url") if traefik else ()
    urls = urls or ("ConfigurableHTTPProxy.api_url", "JupyterHub.proxy_api_url")
    proxy = port_of(config.text(*urls), TRAEFIK_API_PORT if traefik else PROXY_PORT)
    hub = config.number("JupyterHub.hub_port") or port_of(config.text("JupyterHub.hub_bind_url"), HUB_PORT)
    return {
        "public": (int(options["port"]) if options.get("port", "").isdigit() else public,),
        "proxy API": (config.number("JupyterHub.proxy_api_port") or proxy,),
        "hub API": tuple(dict.fromkeys((hub, *_service_ports(config)))),
    }


def _service_ports(config: HubConfig) -> list[int]:
    """Return the ports of the services that the hub itself starts; they listen in its domain, on this machine."""
    entries = [entry for entry in config.entries("JupyterHub.services") if entry.get("command")]
    return [port for port in (port_of(str(entry.get("url", "")), 0) for entry in entries) if port]


def _of_url(url: str, default: int) -> int:
    """Return the port of JupyterHub.bind_url, by its scheme where it names none."""
    schemes = {"http": 80, "https": 443}
    return port_of(url, schemes.get(url.partition(":")[0], default) if url else default)
