"""The only reader of configuration: file, environment and flags become frozen settings, or one sentence on why not.

Opened once, at the door; the parts below are handed plain values. Must not know what a value is used for.
`settings.py` and `sections.py` say which keys there are, `values.py` how each is written, `load.py` where they come
from.
"""

from proxy.config.home import fingerprint_key, prepare_home
from proxy.config.load import load, parse_upstream
from proxy.config.sections import ConsoleSettings, ForwardSettings, RecordSettings
from proxy.config.settings import Settings, UpstreamSettings, documented_keys
from proxy.config.values import loopback, upstream_url

__all__ = [
    "ConsoleSettings",
    "ForwardSettings",
    "RecordSettings",
    "Settings",
    "UpstreamSettings",
    "documented_keys",
    "fingerprint_key",
    "load",
    "loopback",
    "parse_upstream",
    "prepare_home",
    "upstream_url",
]
