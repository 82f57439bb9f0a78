"""Puts the dashboard into the wheel, within the package; paretoscope/base/places.py finds it there."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Of .streamlit the settings alone: a secrets.toml beside them stays at home.
DASHBOARD = ("app.py", "pages", "assets", ".streamlit/config.toml")


class Dashboard(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the files, unless the installation is editable: that one reads them where they are."""
        if version != "editable":
            build_data["force_include"].update({path: f"paretoscope/dashboard/{path}" for path in DASHBOARD})
