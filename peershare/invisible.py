"""Characters that leave no mark. A name of them alone is empty; beside others they hide a difference."""

import re

# Default_Ignorable_Code_Point (Unicode, DerivedCoreProperties.txt), which Python's unicodedata does not have.
IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# Not ignorable, and nothing to be seen all the same: marks of interlinear annotations, a filler of the Khitan
# script; and with the width of a letter the blank Braille pattern and the null notehead.
UNSEEN = "\ufff9-\ufffb\U00016fe4"
BLANK = "\u2800\U0001d159"

VISIBLE = re.compile(rf"[^\s{IGNORABLE}{UNSEEN}{BLANK}]")
