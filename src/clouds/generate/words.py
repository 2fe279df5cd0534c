"""The word lists that a prompt is checked against, as data: what is a street, what is unsafe, what is chatter."""

import re

# one of these puts a sentence outdoors, where a car could be
STREET = """
alley avenue boulevard bridge bypass carriageway city cityscape cobblestone countryside crossing crossroad crossroads
crosswalk curb downtown driveway dual-carriageway expressway freeway harbor harbour
highway industrial-area industrial-estate intersection junction kerb lane
main-street market motorway neighborhood neighbourhood overpass parkway pavement promenade road roadside roadway
roundabout route seafront sidewalk square street streetscape suburb suburban suburbs thoroughfare town townscape traffic
tram tunnel underpass village
"""

# sentences about these are no street scenes, whatever else they mention
OFF_TOPIC = """
aquarium bathroom bedroom birthday bowl cartoon casserole chapter classroom cookbook dragon email equation essay galaxy
goblin hospital-ward kitchen laptop living-room novel operating-room orchestra password planet poem python-code recipe
software spaceship spreadsheet stock-market submarine unicorn underwater website wizard zombie
"""

# nothing that a public data set should show or an image model should be asked for
UNSAFE = """
assault beheaded beheading blood bleeding bomb bombing child-abuse corpse corpses dead-body dead-bodies decapitated
erotic execution explosion fascist fetish genitals gore gory hanging-body gun gunfire gunman guns hitler injured
killed killing kkk knife lingerie lynching massacre murder murdered mutilated naked nazi nazis nude nudes nudity orgy
penis porn porno pornographic pornography racist rape raped rifle sex sexual sexy shooting shot-dead slave slaves
stabbed stabbing suicide swastika terrorist terrorists topless torture tortured vagina wounded
"""

# how answers begin or end that are not scenes; lower case
CHATTER = (
    "as an ai", "i am sorry", "i'm sorry", "i apologize", "i cannot", "i can't", "i can not", "sure,", "sure!",
    "certainly", "of course", "here are", "here is", "here's", "these are", "below are", "let me know", "i hope",
    "feel free", "please note", "note:", "the following", "would you like", "each sentence", "these sentences",
    "these descriptions",
    "describe ", "write ", "the use of", "this sentence", "these photos", "i'd be happy", "happy to help", "thank you",
    "the list", "you can", "remember ", "to describe", "the sentence", "the description",
)  # fmt: skip

# English needs some of these in any sentence of six words
ENGLISH = """
a an and are as at below beside between by during for from full has have heavy in into its near no of on one over past
several some that the their there through to two under up waiting walking while with without
"""


def pattern(words: str) -> re.Pattern[str]:
    """Any of the words as a whole word, singular or plural; a hyphen stands for a space too."""
    each = "|".join(re.escape(word).replace(r"\-", "[ -]") for word in words.split())
    return re.compile(rf"(?<![\w-])(?:{each})s?(?![\w-])", re.IGNORECASE)
