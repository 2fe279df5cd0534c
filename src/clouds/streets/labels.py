"""The values of a scene's label: the train ids of Cityscapes' 19 classes, in their order, and what has no label.

The embedded world stands alone, so it has its own copy of their names; a test holds it to the package's table.
"""

IGNORE = 255

NAMES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip

(
    ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, LIGHT, SIGN, VEGETATION, TERRAIN,
    SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE,
) = range(len(NAMES))  # fmt: skip
