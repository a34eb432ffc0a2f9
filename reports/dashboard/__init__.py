"""The dashboard: a study in a browser on this machine."""

from reports.dashboard.app import create_app
from reports.dashboard.source import Key, Library, Source

__all__ = ["Key", "Library", "Source", "create_app"]
