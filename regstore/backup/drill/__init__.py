"""Recovery drills: images are restored to a scratch directory and pulled from a real registry that serves it."""

from regstore.backup.drill.drawing import DrillSelection
from regstore.backup.drill.exercise import Drilled, DrillOptions, DrillResult, run_drill
from regstore.backup.drill.serving import find_program

__all__ = ["DrillOptions", "DrillResult", "DrillSelection", "Drilled", "find_program", "run_drill"]
