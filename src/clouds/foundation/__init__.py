"""The four roles that foundation models play; nothing outside this folder loads one.

``BACKENDS``: recipe value -> what results and the report call it. A stand-in never bears a famous model's name.
"""

BACKENDS = {
    "efficientnet-lite0": "efficientnet-lite0 (ImageNet)",
    "all-minilm-l6-v2": "all-MiniLM-L6-v2",
    "grammar": "grammar",
    "streets": "streets renderer",
    "superpixels": "superpixels",
}
