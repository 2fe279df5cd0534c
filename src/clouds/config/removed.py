"""Settings that were removed, and what is built in in their place; CHANGELOG.md says why each went."""

from typing import Any

from clouds.errors import UsageError

REMOVED: dict[str, Any] = {
    "audit.contrast": 0.05,
    "audit.least": 0.5,
    "audit.seen": 0.002,
    "augment.flip": True,
    "data.restyle.attention_slicing": False,
    "generate.attention_slicing": False,
    "generate.restyle.attention_slicing": False,
    "generate.retries": 2,
    "loss.class_weight": 2.0,
    "loss.dice_weight": 5.0,
    "loss.importance": 0.75,
    "loss.mask_weight": 5.0,
    "loss.no_object": 0.1,
    "loss.oversample": 3.0,
    "selftrain.border": 0.0,
    "selftrain.gate_agreement": 0.0,
    "selftrain.gate_confidence": 0.0,
    "selftrain.hide": 0.0,
    "selftrain.hide_patch": 1 / 12,
    "selftrain.portion": 0.5,
    "selftrain.threshold": "fixed",
    "selftrain.weight_by": [],
    "train.joint_learning_rate": None,
    "train.keep": 2,
    "train.patience": None,
}

# such keys never changed a result: whatever a run of before says, it goes on
HARMLESS = frozenset({
    "data.restyle.attention_slicing", "generate.attention_slicing", "generate.restyle.attention_slicing",
    "generate.retries", "train.keep",
})  # fmt: skip


def without_removed(settings: dict[str, Any], origin: str) -> dict[str, Any]:
    """The settings of a run of before, without the removed ones, which say what is built in now.

    Raises UsageError naming those that say something else, unless it never changed a result.
    """
    faults = []

    def kept(values: dict[str, Any], prefix: str) -> dict[str, Any]:
        found = {}
        for name, value in values.items():
            key = prefix + name
            if key not in REMOVED:
                found[name] = kept(value, f"{key}.") if isinstance(value, dict) else value
            elif value != REMOVED[key] and key not in HARMLESS:
                faults.append(f"{key} is {value!r} there and was removed since: {REMOVED[key]!r} is built in now")
        return found

    left = kept(settings, "")
    if faults:
        raise UsageError(
            f"{origin}: " + "; ".join(faults) + ". Resume with the version that wrote it (its commit is there), or "
            "choose another --out"
        )
    return left
