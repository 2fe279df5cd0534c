"""The model hub: whether it answers. Its client asks again and again for minutes where a network is dead or silent."""

import urllib.error
import urllib.request

SECONDS = 3.0  # to wait for an answer of a prompt server, or of the hub where only its state is shown
PATIENCE = 10.0  # seconds to wait for the hub's answer before it is asked for files

_off = False  # by ``hub_problem``, not by the user's HF_HUB_OFFLINE


def unreachable(address: str, seconds: float = SECONDS) -> str | None:
    """Why an address does not answer, None where it does, whatever it says."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=seconds):
            return None
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", None) or error)


def hub_problem() -> str | None:
    """To be called before files are asked for: why the hub does not answer, None where it does.

    Where it does not, its client is told to look into its cache alone, until the next call finds it answering.
    """
    global _off
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE and not _off:
        return "switched off by HF_HUB_OFFLINE"
    problem = unreachable(constants.ENDPOINT, PATIENCE)
    constants.HF_HUB_OFFLINE = _off = problem is not None
    return f"{constants.ENDPOINT} does not answer: {problem}" if problem else None
