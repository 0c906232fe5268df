"""What workers need: imported once, by the process that they are forked from."""

from ..models.inference import language_model as language_model
from ..models.inference import vision_encoder as vision_encoder
from . import worker as worker
