"""The door for A1111, Forge and reForge: one always-visible script that hands the UI's hooks on."""

from modules import scripts
from refit_sidecar_plugin.ui.webui.hooks import Hooks
from refit_sidecar_plugin.ui.webui.plugin import plugin
from refit_sidecar_plugin.ui.webui.ui.panel import build_panel

hooks = Hooks()
plugin().connect()


class RefitSidecarScript(scripts.Script):
    def title(self) -> str:
        return "Refit Sidecar"

    def show(self, is_img2img: bool) -> object:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list:
        return build_panel(is_img2img)

    def before_process(self, p, *values) -> None:
        hooks.before_process(values)

    def after_extra_networks_activate(self, p, *values, **kwargs) -> None:
        hooks.networks_active(p, values, kwargs["extra_network_data"])

    def process_before_every_sampling(self, p, *values, **kwargs) -> None:
        hooks.before_sampling(p, values, kwargs)

    def post_sample(self, p, ps, *values) -> None:
        hooks.sampled()

    def postprocess(self, p, processed, *values) -> None:
        # Between the two, other extensions may have made pictures of their own, with the engine still in place.
        hooks.sampled()
