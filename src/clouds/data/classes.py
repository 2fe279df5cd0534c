"""The 19 Cityscapes train classes: names, synonyms for the text classifier, and colours.

Order is the train id, the index every label map inside CLOUDS uses; 255 is the ignore index.
The synonyms are the 60 of the published CLOUDS checkpoints, in their order.
"""

IGNORE = 255

# one row a class: name, synonyms, Cityscapes colour (RGB)
_TABLE: tuple[tuple[str, tuple[str, ...], tuple[int, int, int]], ...] = (
    ("road", ("road", "railroad"), (128, 64, 128)),
    ("sidewalk", ("sidewalk", "pavement"), (244, 35, 232)),
    ("building", ("building", "buildings", "edifice", "edifices", "house", "ceiling"), (70, 70, 70)),
    ("wall", ("wall", "walls", "brick wall", "stone wall", "tile wall", "wood wall"), (102, 102, 156)),
    ("fence", ("fence", "fences"), (190, 153, 153)),
    ("pole", ("pole", "poles"), (153, 153, 153)),
    ("traffic light", ("traffic light", "traffic lights"), (250, 170, 30)),
    ("traffic sign", ("traffic sign", "stop sign"), (220, 220, 0)),
    ("vegetation", ("vegetation", "tree", "trees", "palm tree", "bushes"), (107, 142, 35)),
    ("terrain", ("terrain", "river", "sand", "sea", "snow", "water", "mountain", "grass", "dirt", "rock"),
     (152, 251, 152)),
    ("sky", ("sky", "clouds"), (70, 130, 180)),
    ("person", ("person",), (220, 20, 60)),
    ("rider", ("rider",), (255, 0, 0)),
    ("car", ("car", "cars"), (0, 0, 142)),
    ("truck", ("truck", "trucks"), (0, 0, 70)),
    ("bus", ("bus", "buses"), (0, 60, 100)),
    ("train", ("train", "trains", "locomotive", "locomotives", "freight train"), (0, 80, 100)),
    ("motorcycle", ("motorcycle", "motorcycles"), (0, 0, 230)),
    ("bicycle", ("bicycle", "bicycles", "bike", "bikes"), (119, 11, 32)),
)

NAMES: tuple[str, ...] = tuple(name for name, _, _ in _TABLE)
SYNONYMS: tuple[tuple[str, ...], ...] = tuple(synonyms for _, synonyms, _ in _TABLE)
COLORS: tuple[tuple[int, int, int], ...] = tuple(color for _, _, color in _TABLE)
