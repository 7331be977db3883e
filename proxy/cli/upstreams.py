"""`upstreams`: what to give to an SDK for each provider, and what the templates still need."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import typer

from proxy import presets
from proxy.cli import render
from proxy.cli.door import ConfigFlag, HomeFlag, UpstreamFlag, door, settings
from proxy.errors import UsageError
from proxy.wire.via import shown

if TYPE_CHECKING:
    from proxy.config import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(upstreams)


def upstreams(
    ctx: typer.Context,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    upstream: UpstreamFlag = None,
    output: render.FormatFlag = render.Format.TABLE,
) -> None:
    """List the upstreams: the exact base_url for an SDK, and where its requests go."""
    door(ctx).say(config, home, None, upstream)
    chosen = settings(ctx)
    here = data_port(chosen)
    rows = [_row(chosen, name, here) for name in chosen.upstreams]
    templates = [_template(chosen, name, here) for name in presets.TEMPLATES if name not in chosen.upstreams]
    if output is render.Format.JSON:
        render.print_json([*rows, *templates])
        return
    columns = (
        render.Column("name"),
        render.Column("base_url"),
        render.Column("upstream", least=20),
        render.Column("dialect", drop=1),
    )
    render.table(columns, [[row[key] or "" for key in ("name", "base_url", "url", "dialect")] for row in rows])
    if templates and render.on_terminal():
        render.say("\nThese need an address of your own first:")
    render.pairs([(row["name"] or "", row["to_set"] or "") for row in templates])


def _row(chosen: Settings, name: str, here: DataPort) -> dict[str, str | None]:
    upstream = chosen.upstreams[name]
    address = here.base_url(name, upstream.url, upstream.dialect)
    proxy = None if upstream.proxy is None else shown(upstream.proxy)
    return {
        "name": name,
        "base_url": address,
        "url": upstream.url,
        "dialect": upstream.dialect,
        "to_set": None,
        "proxy": proxy,
    }


def _template(chosen: Settings, name: str, here: DataPort) -> dict[str, str | None]:
    """A provider that has no address yet; `to_set` says which setting gives it one."""
    template = presets.TEMPLATES[name]
    address = here.base_url(name, template.example, template.dialect)
    to_set = presets.template_hint(name)
    return {
        "name": name,
        "base_url": address,
        "url": None,
        "dialect": template.dialect,
        "to_set": to_set,
        "proxy": None,
    }


class DataPort(NamedTuple):
    """Where the data port is, and whether it speaks TLS."""

    host: str
    port: int
    tls: bool

    @property
    def address(self) -> str:
        """`http://HOST:PORT`, or `https://`."""
        return presets.address(self.host, self.port, tls=self.tls)

    def base_url(self, upstream: str, url: str = "", dialect: str = "openai") -> str:
        """See presets.base_url."""
        return presets.base_url(upstream, self.host, self.port, url, dialect, tls=self.tls)


def data_port(chosen: Settings) -> DataPort:
    """The data port that is served now, else the one in the settings. Raises UsageError where neither is known."""
    from proxy.status import read_all

    here = chosen.forward
    serving = [each.facts for each in read_all(chosen.home) if each.role == "forward" and each.fresh]
    addresses = [(each.get("address"), each.get("tls") is True) for each in serving]
    ports = {address[1]: tls for address, tls in addresses if isinstance(address, list) and len(address) == 2}
    if here.port in ports or not ports:
        if here.port == 0:
            raise UsageError("forward.port is 0, any free port: start `wiretape serve` first, or set one")
        return DataPort(here.host, here.port, ports.get(here.port, here.tls))
    port, tls = next(iter(ports.items()))
    return DataPort(here.host, int(port), tls)
